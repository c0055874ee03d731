"""What all commands share: --help, exit statuses, standard streams, and failures as one line.

    run = console.command(main, SampleConfig)     # run() is the console script
"""
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from flags import help as help_text
from flags import parse
from flags.errors import RunError, UserError

HELP = {'--help': help_text.short, '-help': help_text.short, '-h': help_text.short, '--helpshort': help_text.short,
        '--helpfull': help_text.full, '-helpfull': help_text.full}


def command(main: Callable[[dict[str, Any]], None], *groups: type) -> Callable[..., None]:
  """The console script of a command: parses, runs, and turns what went wrong into a line and an exit status.

  Exit status 2 is a mistake of the user's, 1 a failure while running, 130 an interruption.

  Args:
    main: takes the flags that are given, {name: value}; its docstring is the beginning of --help.
    groups: the dataclasses whose fields are the flags.
  """
  def run(argv: list[str] | None = None) -> None:
    argv = sys.argv if argv is None else argv
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    name = pathlib.Path(argv[0]).stem.replace('_', '-')
    try:
      if wanted := next((HELP[word] for word in argv[1:] if word in HELP), None):
        print(wanted(name, main.__doc__, groups))
      else:
        main(parse.parse(argv, groups))
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
      what = _of_tensorflow(error)
      if not what:
        raise
      sys.exit(_complain(name, what, 1))

  return run


def _of_tensorflow(error):
  """What went wrong while TensorFlow computed, in words; '' where it was not that."""
  if not isinstance(error, MemoryError) and not type(error).__module__.startswith('tensorflow.'):
    return ''
  words = f'{type(error).__name__}: {[*str(error).splitlines(), ""][0]}'
  if isinstance(error, MemoryError) or 'OOM' in words or 'out of memory' in words.lower():
    return f'needs more memory than there is ({words}). Try less at a time, such as a smaller --batch_size'
  return f'TensorFlow failed ({words})'


@contextlib.contextmanager
def quietly() -> Iterator[None]:
  """Holds back what TensorFlow writes to standard error while it is imported, unless the import fails.

  Its first lines, that there is no GPU, come before any setting of its own can silence them.
  """
  sys.stderr.flush()
  with tempfile.TemporaryFile() as held:
    own = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(own, held.read())
      raise
    finally:
      os.dup2(own, 2)
      os.close(own)


def _complain(name, error, status):
  print(f'{name}: {error}', file=sys.stderr)
  return status
