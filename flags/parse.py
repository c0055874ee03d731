"""Command lines, flagfiles and presets -> the values of the flags that are given. Nothing else knows absl."""
import dataclasses
import difflib
import pathlib
from collections.abc import Sequence
from typing import Any, cast

from absl import flags

from flags.errors import UserError
from flags.schema import KINDS

PRESETS = pathlib.Path(__file__).parent / 'presets'
INSTEAD = {'chunk_curriculum': 'chunk_length'}  # a flag beside a preset, and what of the preset it replaces
_DEFINE: dict[type, Any] = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float,
           str: flags.DEFINE_string}


def parse(argv: Sequence[str], groups: Sequence[type]) -> dict[str, Any]:
  """Reads the command line.

  Args:
    argv: the command and its arguments.
    groups: the dataclasses whose fields are its flags.

  Returns:
    {flag: value} of the flags that are given there or in a flagfile, so that they can be told from defaults.

  Raises:
    UserError: a flag or its value is wrong.
  """
  values = flags.FlagValues()
  fields = {f.name: f for group in groups for f in dataclasses.fields(group)}
  for f in fields.values():
    _DEFINE[cast(type, f.type)](f.name, f.default, f.metadata['help'], flag_values=values)
  arguments = argv[1:]
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
    raise UserError(f'--{flag}={value}: expected {KINDS[cast(type, fields[flag].type)]}') from error
  except UnicodeDecodeError as error:
    raise UserError('--flagfile: expected a text file with a flag in each line, not a binary one') from error
  except flags.Error as error:
    raise UserError(' '.join(str(error).split())) from error
  if rest:
    raise UserError(f'{rest[0]}: expected flags only, such as --{next(iter(fields))}=VALUE')
  return {name: values[name].value for name in fields if values[name].present and name not in unset}


def preset_names() -> list[str]:
  """The presets that charlm carries."""
  return sorted(p.stem for p in PRESETS.glob('*.flags'))


def _preset_path(name):
  if name not in preset_names():
    raise UserError(f'--preset={name}: expected one of {", ".join(preset_names())}')
  return PRESETS / f'{name}.flags'
