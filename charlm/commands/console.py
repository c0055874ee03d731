"""A command as a program: its exit status, and one line for what went wrong."""
import contextlib
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from charlm.commands import streams
from flags.errors import RunError, UserError
from flags.help import full_help, short_help
from flags.parse import parse
from flags.schema import Checked

HELP = {'--help': short_help, '-help': short_help, '-h': short_help, '--helpshort': short_help, '--helpfull': full_help,
        '-helpfull': full_help}
CONTROLS = re.compile(r'[\0-\x1f\x7f-\x9f\u2028\u2029]')
MEMORY = '/dev/shm'  # where Linux keeps files in memory: for temporary ones where no folder of a disk can be written to


def command(main: Callable[[dict[str, Any]], None], *groups: type[Checked], operands: str = '') -> Callable[..., None]:
  """The console script of a command.

  It exits with status 2 after a mistake of the user's, 1 after a failure while running, and 130 after an interruption.

  Args:
    main: does the work, given the flags that were set, by name. Its docstring opens the help.
    groups, operands: as of `parse`.

  Returns:
    A function without arguments, as a console script calls it; tests give it an argv.
  """
  def run(argv: Sequence[str] | None = None) -> None:
    streams.prepare()
    argv = sys.argv if argv is None else argv
    _prepare_libraries()
    name = pathlib.Path(argv[0]).stem.replace('_', '-')
    try:
      if asked := next((HELP[argument] for argument in argv[1:] if argument in HELP), None):
        print(asked(name, main.__doc__ or '', groups))
      else:
        main(parse(argv, groups, operands))
      sys.stdout.flush()
    except UserError as error:
      sys.exit(_complain(name, error, 2))
    except RunError as error:
      sys.exit(_complain(name, error, 1))
    except KeyboardInterrupt:
      sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
      sys.exit(1)
    except Exception as error:
      failure = _tensorflow_failure(error, groups)
      if not failure:
        raise
      sys.exit(_complain(name, failure, 1))
    finally:
      streams.finish()

  return run


@contextlib.contextmanager
def quietly() -> Iterator[None]:
  """Holds back what TensorFlow writes to standard error while it is imported, and hides matplotlib from Keras.

  Keras does without matplotlib where it is missing. It cannot be imported beside settings that are broken, or without a
  folder for temporary files; the plot imports it later.

  Raises:
    RunError: a library cannot be loaded: it is not whole, or there is too little memory for it.
  """
  hidden = {'matplotlib': None} if 'matplotlib' not in sys.modules else {}
  sys.modules.update(hidden)  # type: ignore[arg-type]
  try:
    with streams.quietly():
      yield
  except ModuleNotFoundError:
    raise
  except (ImportError, MemoryError, SystemError) as error:  # Python says SystemError where memory ends in C code
    reason = [*str(error).splitlines(), ''][0]
    raise RunError(f'a library cannot be loaded ({type(error).__name__}: {reason}). Is there enough memory (ulimit -v) '
                   'for it, and is the installation whole (pip check)?') from error
  finally:
    for name in hidden:
      del sys.modules[name]


def _prepare_libraries() -> None:
  """Has TensorFlow and Keras, which are imported later, be silent, and do without folders that are not there."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  # Keras would take its backend and its number types from a file in the home folder, or make a folder named ~.
  os.environ.update(KERAS_BACKEND='tensorflow', KERAS_HOME=os.devnull)
  try:
    tempfile.gettempdir()
  except OSError:  # the import of TensorFlow asks for the name of one, and mostly does without
    tempfile.tempdir = os.environ['TMPDIR'] = MEMORY if os.access(MEMORY, os.W_OK) else '/tmp'


def _tensorflow_failure(error: Exception, groups: Sequence[type[Checked]]) -> str:
  """What went wrong while TensorFlow computed, in one line; '' for any other error."""
  if not isinstance(error, MemoryError) and not type(error).__module__.startswith('tensorflow.'):
    return ''
  if own := re.search(r'\bRunError: (.*)', str(error)):  # of a function of ours that TensorFlow has called
    return own[1]
  words = f'{type(error).__name__}: {[*str(error).splitlines(), ""][0]}'
  if isinstance(error, MemoryError) or re.search(r'\bOOM\b', words) or 'out of memory' in words.lower():
    smaller = [f', such as a smaller --{name}' for name in ('batch_size', 'num_samples')
               if any(name in group.__dataclass_fields__ for group in groups)]
    return f'needs more memory than there is ({words}). Try less at a time{"".join(smaller)}'
  return f'TensorFlow failed ({words})'


def _complain(name: str, error: object, status: int) -> int:
  """Tells what went wrong in one line: what would end it or move the cursor, in a name or a text, becomes an escape."""
  line = CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(error))
  print(f'{name}: {line}', file=sys.stderr)
  return status
