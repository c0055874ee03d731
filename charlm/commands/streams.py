"""The standard streams of a process: open, able to take any text, and no cause of a traceback."""
import codecs
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from flags.errors import RunError, UserError

ERRORS = 'charlm'  # the name of how a stream takes what it cannot say


class _Output(io.FileIO):
  """Standard output. What cannot be written is a RunError, or BrokenPipeError where the reader has gone."""

  def write(self, data: Any) -> int:
    try:
      return super().write(data)
    except BrokenPipeError:
      raise
    except OSError as error:
      raise RunError(f'standard output cannot be written ({error.strerror})') from error


class _Messages(io.FileIO):
  """Standard error. What cannot be written is lost: the work counts, and there is nowhere to tell of it."""

  def write(self, data: Any) -> int:
    with contextlib.suppress(OSError):
      return super().write(data)
    return len(data)


def prepare() -> None:
  """Makes the standard streams fit for use. Streams that something has put in their places stay.

  A stream that was closed at the start reads and writes nothing; its descriptor would otherwise be that of the next
  file that is opened. Text that is read by no terminal is UTF-8, whatever the locale, unless PYTHONIOENCODING says
  otherwise. What a stream cannot say becomes an escape.
  """
  for descriptor in range(3):
    _keep_open(descriptor)
  if sys.stdin is None:
    sys.stdin = open(0, encoding='utf-8', closefd=False)  # noqa: SIM115, open as long as the process
  elif sys.stdin is sys.__stdin__:
    sys.stdin.reconfigure(errors='surrogateescape')  # type: ignore[union-attr]
  if sys.stdout is sys.__stdout__:
    sys.stdout = _text(_Output(1, 'w', closefd=False), sys.__stdout__)
  if sys.stderr is sys.__stderr__:
    sys.stderr = _text(_Messages(2, 'w', closefd=False), sys.__stderr__)


def _keep_open(descriptor: int) -> None:
  """Opens the null device as `descriptor`, if that is closed and those below it are open."""
  try:
    os.fstat(descriptor)
  except OSError:
    os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _text(raw: io.FileIO, given: Any) -> io.TextIOWrapper:
  """A stream of text on `raw`. given: the one that Python has made, or None."""
  encoding, _, own_errors = os.environ.get('PYTHONIOENCODING', '').partition(':')
  given = given or io.TextIOWrapper(io.BytesIO(), 'utf-8')  # None where it was closed
  with contextlib.suppress(OSError):
    given.flush()
  encoding = given.encoding if encoding or raw.isatty() else 'utf-8'
  return io.TextIOWrapper(io.BufferedWriter(raw), encoding, own_errors or ERRORS,
                          line_buffering=raw.isatty() or isinstance(raw, _Messages) or given.write_through)


def _characters_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
  """What stands for characters that cannot be encoded: what the bytes of a name are in UTF-8, or escapes."""
  assert isinstance(error, UnicodeEncodeError), error
  try:
    name, end = codecs.lookup_error('surrogateescape')(error)
  except UnicodeError:
    return codecs.backslashreplace_errors(error)
  assert isinstance(name, bytes), name
  return name.decode('utf-8', 'backslashreplace').encode(error.encoding, 'backslashreplace'), end


codecs.register_error(ERRORS, _characters_or_escapes)


def finish() -> None:
  """Writes what standard output still holds, or drops it where it cannot be written, so that Python need not try."""
  try:
    sys.stdout.flush()
  except (RunError, OSError):
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
  """Holds back what TensorFlow writes to standard error while it is imported or converts, unless that fails.

  Its first lines, that there is no GPU, come before any setting of its own can silence them.
  """
  try:
    held = _unnamed_file()
  except OSError:  # nowhere to hold it
    yield
    return
  sys.stderr.flush()
  with held:
    terminal = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    except (UserError, RunError):  # one line tells it
      raise
    except Exception:
      held.seek(0)
      with contextlib.suppress(OSError):
        os.write(terminal, held.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


def _unnamed_file() -> IO[bytes]:
  """A file to write and read; in memory where that can be, since there may be no folder for temporary files."""
  with contextlib.suppress(AttributeError, OSError):
    return open(os.memfd_create('charlm'), 'w+b')
  return tempfile.TemporaryFile()
