"""Where things are kept on this machine."""
import os
import pathlib
import re

from flags.errors import UserError

# Flags that are paths, and what they take beside those of this machine: TensorFlow Datasets reads gs:// by itself.
PATHS: dict[str, tuple[str, ...]] = {'corpus': (), 'data_dir': ('gs://',), 'cache_dir': (), 'workdir': (),
                                     'init_from': (), 'export_dir': (), 'prompt_file': ()}


def cache_root(cache_dir: str | os.PathLike = '') -> pathlib.Path:
  """The folder of the cache: `cache_dir`; if it is empty, $XDG_CACHE_HOME/charlm or ~/.cache/charlm."""
  default = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'charlm'
  return pathlib.Path(cache_dir or default).expanduser().absolute()


def check_local(flag: str, value: str) -> None:
  """Raises UserError where a flag of PATHS is the address of something that it cannot be, such as gs://bucket/text."""
  address = re.match(r'([A-Za-z][A-Za-z0-9+.-]*://)(.*)', value, re.DOTALL)
  if address and address[1].lower() not in PATHS[flag]:
    wanted = ' or '.join(['a path on this machine', *PATHS[flag]])
    hint = f', such as {address[2]}' if address[1].lower() == 'file://' else '; copy it here first'
    raise UserError(f'--{flag}={value}: {address[1]} is not supported; expected {wanted}{hint}')
