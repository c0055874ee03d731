"""Dataclass fields -> absl flags -> the values that were given.

    run = define.command(main, SampleConfig)     # run() is the console script

calls `main(given)` with the flags that stand on the command line (or in a flagfile), by name, so that a command
can tell a value that was asked for from a default.
"""
import contextlib
import dataclasses
import difflib
import os
import pathlib
import sys
import tempfile
import textwrap

from absl import flags

from flags.errors import RunError, UserError
from flags.schema import KINDS, expected

PRESETS = pathlib.Path(__file__).parent / 'presets'
INSTEAD = {'chunk_curriculum': 'chunk_length'}  # a flag beside a preset, and what of the preset it replaces
_DEFINE = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float,
           str: flags.DEFINE_string}


def command(main, *groups):
  """The console script of a command: parses, runs, and turns what went wrong into a line and an exit status.

  Exit status 2 is a mistake of the user's, 1 a failure while running, 130 an interruption.
  """
  def run(argv=None):
    argv = sys.argv if argv is None else argv
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    name = pathlib.Path(argv[0]).stem.replace('_', '-')
    try:
      given = parse(argv, groups)
      if given is None:
        print(usage(name, main.__doc__, groups))
      else:
        main(given)
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
def quietly():
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


def parse(argv, groups):
  """argv -> {flag: value} of the flags given, or None where --help is. Raises UserError."""
  values = flags.FlagValues()
  fields = {f.name: f for group in groups for f in dataclasses.fields(group)}
  for f in fields.values():
    _DEFINE[f.type](f.name, f.default, f.metadata['help'], flag_values=values)
  arguments = argv[1:]
  if any(a in ('--help', '-help', '-h', '--helpfull', '--helpshort') for a in arguments):
    return None
  try:
    rest = values([argv[0], *arguments])[1:]
    unset = set()
    if 'preset' in fields and values['preset'].value:  # read again, the preset first, so that the flags beside it win
      flagfile, beside = _preset_path(values['preset'].value), {name for name in fields if values[name].present}
      unset = {other for name, other in INSTEAD.items() if name in beside} - beside
      values.unparse_flags()
      rest = values([argv[0], f'--flagfile={flagfile}', *arguments])[1:]
  except flags.UnrecognizedFlagError as error:
    near = difflib.get_close_matches(error.flagname, fields, 1)
    guess = f'Did you mean --{near[0]}?' if near else '--help lists them'
    raise UserError(f'--{error.flagname}: no such flag. {guess}') from error
  except flags.IllegalFlagValueError as error:
    flag, _, value = str(error).removeprefix('flag --').partition(':')[0].partition('=')
    if flag not in fields:
      raise UserError(f'{flag.partition(" ")[0]}: expected a file, such as --flagfile=my.flags') from error
    raise UserError(f'--{flag}={value}: expected {KINDS[fields[flag].type]}') from error
  except UnicodeDecodeError as error:
    raise UserError('--flagfile: expected a text file with a flag in each line, not a binary one') from error
  except flags.Error as error:
    raise UserError(' '.join(str(error).split())) from error
  if rest:
    raise UserError(f'{rest[0]}: expected flags only, such as --{next(iter(fields))}=VALUE')
  return {name: values[name].value for name in fields if values[name].present and name not in unset}


def preset_names():
  return sorted(p.stem for p in PRESETS.glob('*.flags'))


def _preset_path(name):
  if name not in preset_names():
    raise UserError(f'--preset={name}: expected one of {", ".join(preset_names())}')
  return PRESETS / f'{name}.flags'


def usage(name, doc, groups):
  """The text of --help: every flag with its default, choices and help."""
  paragraphs = [f'{name}: {textwrap.dedent(doc or "").strip()}', 'All flags may also be given in a file, one in a '
                'line, with --flagfile=FILE.']
  for group in groups:
    paragraphs.append(f'{group.__doc__.splitlines()[0]}')
    for f in dataclasses.fields(group):
      wanted = f'one of {", ".join(preset_names())}' if f.name == 'preset' else expected(f.metadata)
      default = f'={f.default}' if f.default != '' else ''
      paragraphs.append(textwrap.fill(f'{f.metadata["help"]}{f" ({wanted})" if wanted else ""}', 100,
                                      initial_indent=' ' * 6, subsequent_indent=' ' * 6))
      paragraphs[-1] = f'  --{f.name}{default}\n{paragraphs[-1]}'
  return '\n\n'.join(paragraphs)
