"""Where things are kept on this machine."""
import os
import pathlib

from flags import typed
from flags.errors import UserError


class NoHome(UserError):
  """There is no home folder, in which the cache is unless --cache_dir says where."""


def cache_root(cache_dir: str | os.PathLike = '') -> pathlib.Path:
  """The folder of the cache: `cache_dir`; if it is empty, $XDG_CACHE_HOME/charlm or ~/.cache/charlm.

  Raises:
    NoHome: that is in a home folder, and there is none.
    OSError: it is relative, and the current folder is gone.
  """
  if not cache_dir:
    caches = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    if caches.startswith('~') and not typed.has_home():
      raise NoHome('--cache_dir: expected a folder to keep tokens in, as there is no home folder here (HOME is not '
                      'set)')
    cache_dir = os.path.join(caches, 'charlm')
  return pathlib.Path(typed.path('cache_dir', os.fspath(cache_dir))).absolute()
