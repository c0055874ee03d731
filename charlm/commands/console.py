"""A command as a program: its streams, its exit status, and one line for what went wrong."""
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flags.errors import RunError, UserError
from flags.help import full_help, short_help
from flags.parse import parse
from flags.schema import Checked

HELP = {'--help': short_help, '-help': short_help, '-h': short_help, '--helpshort': short_help, '--helpfull': full_help,
        '-helpfull': full_help}


def command(main: Callable[[dict[str, Any]], None], *groups: type[Checked]) -> Callable[..., None]:
  """The console script of a command.

  It exits with status 2 after a mistake of the user's, 1 after a failure while running, and 130 after an interruption.

  Args:
    main: does the work, given the flags that were set, by name. Its docstring opens the help.
    groups: the dataclasses of the flags.

  Returns:
    A function without arguments, as a console script calls it; tests give it an argv.
  """
  def run(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv if argv is None else argv
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    name = pathlib.Path(argv[0]).stem.replace('_', '-')
    try:
      asked = next((HELP[argument] for argument in argv[1:] if argument in HELP), None)
      if asked:
        print(asked(name, main.__doc__ or '', groups))
      else:
        main(parse(argv, groups))
      sys.stdout.flush()
    except UserError as error:
      sys.exit(_complain(name, error, 2))
    except RunError as error:
      sys.exit(_complain(name, error, 1))
    except KeyboardInterrupt:
      sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(1)
    except Exception as error:
      failure = _tensorflow_failure(error)
      if not failure:
        raise
      sys.exit(_complain(name, failure, 1))

  return run


def _tensorflow_failure(error: Exception) -> str:
  """What went wrong while TensorFlow computed, in one line; '' for any other error."""
  if not isinstance(error, MemoryError) and not type(error).__module__.startswith('tensorflow.'):
    return ''
  words = f'{type(error).__name__}: {[*str(error).splitlines(), ""][0]}'
  if isinstance(error, MemoryError) or 'OOM' in words or 'out of memory' in words.lower():
    return f'needs more memory than there is ({words}). Try less at a time, or a smaller model'
  return f'TensorFlow failed ({words})'


def _complain(name: str, error: object, status: int) -> int:
  print(f'{name}: {error}', file=sys.stderr)
  return status


@contextlib.contextmanager
def quietly() -> Iterator[None]:
  """Holds back what TensorFlow writes to standard error while it is imported, unless the import fails.

  Its first lines, that there is no GPU, come before any setting of its own can silence them.
  """
  sys.stderr.flush()
  with tempfile.TemporaryFile() as held:
    terminal = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(terminal, held.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)
