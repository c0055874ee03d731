"""Which choices a run has: the given flags, and those of the run that it resumes or the model that it starts from."""
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from charlm.training import autoconfig
from charlm.workdir import layout, names
from charlm.workdir.names import Folder
from flags import typed
from flags.config import Config
from flags.errors import UserError
from flags.network import DROPOUTS, ModelConfig
from flags.run import RunConfig

# Flags that say where the text is on this machine. They may change when a run resumes.
LOCATION_FLAGS = ('corpus', 'cache_dir', 'data_dir')
# Flags whose values come with the model that a run starts from (--init_from).
INHERITED_FLAGS = ('tokenizer', 'vocab_size', *ModelConfig.__dataclass_fields__)


def choose_config(workdir: Folder, given: Mapping[str, Any]) -> Config:
  """The configuration of a run, with what autoconfig can say before the text is read.

  A run that resumes has the configuration that was saved with its checkpoint. A run without a checkpoint has lost
  nothing yet, so it starts anew with the given flags; but where none are given, it has those that were saved.

  Args:
    workdir: the folder of the run.
    given: flags that the user has set, by name.

  Raises:
    UserError: flags are given that differ from those of the checkpoint, or of the model that the run starts from
      (--init_from). The corpus may have another name: checkpoint.check_identity finds out whether it is the same text.
  """
  if names.exists(workdir) and not pathlib.Path(workdir).is_dir():
    raise UserError(f'--workdir={workdir}: is a file; expected a folder, or a new name')
  chosen = {name: value for name, value in given.items() if name not in RunConfig.__dataclass_fields__}
  none_given = chosen.keys() <= {*LOCATION_FLAGS} - {'corpus'}
  if layout.has_checkpoint(workdir) or (none_given and names.exists(layout.config_path(workdir))):
    return _resumed_config(workdir, chosen)
  if chosen.get('init_from'):
    chosen = _inherited(chosen) | chosen
  return Config().replace(autoconfig.provisional(chosen) | chosen)


def _resumed_config(workdir: Folder, chosen: Mapping[str, Any]) -> Config:
  """The saved configuration, with the locations that are chosen now."""
  saved = layout.read_config(workdir)
  locations = {name: value for name, value in chosen.items() if name in LOCATION_FLAGS}
  others = {name: value for name, value in chosen.items() if name not in LOCATION_FLAGS}
  if differing := _differing(others, saved.flat()):
    raise UserError(f'--workdir={workdir}: was started with other flags: now {differing}. Leave them out '
                    f'to go on, or start in another folder ({typed.flag("init_from", workdir)} goes on from its '
                    'weights there)')
  return dataclasses.replace(saved, data=dataclasses.replace(saved.data, **locations),
                             places=dataclasses.replace(saved.places, **dict.fromkeys(locations, '')))


def follow(chief: Config, given: Mapping[str, Any]) -> Config:
  """The configuration that the chief of several workers has, with the places that are given here.

  Raises:
    UserError: other flags are given here than the chief has.
  """
  locations = {name: value for name, value in given.items() if name in LOCATION_FLAGS}
  if differing := _differing({name: given[name] for name in given.keys() - locations.keys()}, chief.flat()):
    raise UserError(f'--strategy=multi_worker: this worker has other flags than the chief: {differing}; expected the '
                    'same command everywhere')
  return dataclasses.replace(chief, data=dataclasses.replace(chief.data, **locations),
                             places=dataclasses.replace(chief.places, **dict.fromkeys(locations, '')))


def _inherited(chosen: Mapping[str, Any]) -> dict[str, Any]:
  """The flags that a run has from the model that it starts from. Flags of training may be chosen anew."""
  saved = layout.read_config(chosen['init_from'], 'init_from').flat()
  inherited = {name: saved[name] for name in INHERITED_FLAGS}
  if not any({**inherited, **chosen}[name] for name in DROPOUTS):
    inherited['dropout_per'] = ModelConfig.dropout_per  # nothing drops any more, so the saved value has no effect
  fixed = {name: value for name, value in inherited.items() if name not in ModelConfig.of_training()}
  if differing := _differing(chosen, fixed):
    raise UserError(f'--init_from={chosen["init_from"]}: its model was made with other flags: now {differing}. Leave '
                    'them out, or leave --init_from out to start afresh')
  return inherited


def _differing(given: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
  """The given flags that have another value in `saved`, in words; '' where none have."""
  return ', '.join(f'--{name}={value} (was {saved[name]})' for name, value in given.items()
                   if name in saved and value != saved[name])
