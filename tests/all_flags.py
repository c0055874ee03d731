"""All commands and all flags, found in the sources, so that tests over them meet a new one at once."""
import dataclasses
import importlib
import pkgutil

import charlm.commands
import flags
from flags.schema import Checked

SHARED = {'console', 'streams'}  # by the commands
COMMANDS = {f'charlm-{module.name}': importlib.import_module(f'charlm.commands.{module.name}')
            for module in pkgutil.iter_modules(charlm.commands.__path__) if module.name not in SHARED}
for module in pkgutil.iter_modules(flags.__path__):
  importlib.import_module(f'flags.{module.name}')
GROUPS = [group for group in Checked.__subclasses__() if all('help' in f.metadata for f in dataclasses.fields(group))]
FIELDS = [(group, f) for group in GROUPS for f in dataclasses.fields(group)]
# Fields without which a group is refused.
NEEDED = {'RunConfig': {'workdir': 'w'}, 'PrepareConfig': {'corpus': 'text', 'tokens_dir': 'new'}}


def made(group, **values):
  """A group with these values."""
  return group(**NEEDED.get(group.__name__, {}) | values)
