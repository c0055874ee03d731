"""Lines that are typed at the terminal, with editing and a history, or piped in. Imports no TensorFlow."""
import codecs
import contextlib
import sys
from collections.abc import Iterator

from flags import paths
from flags.errors import UserError

HISTORY_LINES = 1000  # that the history keeps


def typed_lines() -> Iterator[bytes]:
  """The lines that are typed at the terminal, or piped in. Ctrl-D ends them; Ctrl-C says so.

  Lines from a pipe or a file are UTF-8, or whatever bytes the model reads. They may end in CR LF and begin with a byte
  order mark, which are no part of them.
  """
  if not (sys.stdin.isatty() and sys.stdout.isatty()):
    first = True
    for piped in sys.stdin.buffer:
      yield (piped.removeprefix(codecs.BOM_UTF8) if first else piped).removesuffix(b'\n').removesuffix(b'\r')
      first = False
    return
  print(':help lists the commands, Ctrl-D ends.', file=sys.stderr)
  with history():
    while True:
      try:
        line = input('> ')
      except EOFError:
        print()
        return
      except KeyboardInterrupt:
        print('\nCtrl-D ends.', file=sys.stderr)
        continue
      yield line.encode('utf-8', 'surrogateescape')


@contextlib.contextmanager
def history() -> Iterator[None]:
  """Gives `input` editing and the lines of earlier sessions, and keeps those of this one in the cache.

  It does without readline where that is missing, and without a file where that cannot be read, written or
  added to.
  """
  try:
    import readline
  except ImportError:
    yield
    return
  readline.set_history_length(HISTORY_LINES)
  try:
    path = paths.cache_root() / 'history'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # what is typed is nobody else's
    readline.read_history_file(path)
  except (OSError, UserError):
    yield
    return
  keep = getattr(readline, 'append_history_file', None)  # libedit, in place of readline, may have none
  before = readline.get_current_history_length()
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      if keep:
        keep(readline.get_current_history_length() - before, path)
