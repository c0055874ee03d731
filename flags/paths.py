"""Where things are kept on this machine."""
import os
import pathlib


def cache_root(cache_dir: str | os.PathLike = '') -> pathlib.Path:
  """The folder of the cache: `cache_dir`; if it is empty, $XDG_CACHE_HOME/charlm or ~/.cache/charlm."""
  default = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'charlm'
  return pathlib.Path(cache_dir or default).expanduser().absolute()
