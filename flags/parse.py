"""A command line -> the flags that were given, by name, so that a command can tell a choice from a default.

This file alone knows absl.
"""
import dataclasses
import difflib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from flags import flagfile, typed
from flags.errors import UserError
from flags.run import PRESETS
from flags.schema import KINDS, Checked, Texts, expected

REPLACES = {'chunk_curriculum': 'chunk_length'}  # a flag beside a preset -> the flag of the preset that it replaces
DEFINE: dict[Any, Callable[..., Any]] = {
  bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string,
  Texts: flags.DEFINE_multi_string}
DEFINE_EACH: dict[Any, Callable[..., Any]] = {  # the same with the values of all times that a flag is given
  bool: flags.DEFINE_boolean, int: flags.DEFINE_multi_integer, float: flags.DEFINE_multi_float,
  str: flags.DEFINE_multi_string, Texts: flags.DEFINE_multi_string}


class _CommandLine(flags.FlagValues):
  """The flags that a command line has itself, without those of the files that it names."""

  def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
    return list(argv)


def parse(argv: Sequence[str], groups: Sequence[type[Checked]], operands: str = '') -> dict[str, Any]:
  """Parses a command line.

  Its own flags win over those of a preset or a file that it names, wherever that stands.

  Args:
    argv: as sys.argv: the first is the program, the others are flags, --flagfile=FILE among them.
    groups: the dataclasses of the flags.
    operands: what the arguments that are no flags are called, such as 'files'; '' takes none. They may stand anywhere.

  Returns:
    {flag: value} of the flags that were given, in a preset or a file included, values as in `typed.meaning`; and
    {operands: a list of them}.

  Raises:
    UserError: a flag is unknown, or given twice where it takes one value; its value is of another type or cannot be
      meant; or a file cannot be read.
  """
  values = flags.FlagValues()
  values.set_gnu_getopt(bool(operands))
  fields = {f.name: f for group in groups for f in dataclasses.fields(group)}
  for f in fields.values():
    DEFINE[f.type](f.name, f.default, f.metadata['help'], flag_values=values)
  rest, replaced = _read(argv, fields, values)
  if rest and not operands:
    raise UserError(f'{rest[0]}: expected flags only, such as --{next(iter(fields))}=VALUE')
  own = _given_once(argv, fields, bool(operands))
  found = {name: typed.meaning(f, own.get(name, values[name].value)) for name, f in fields.items()
           if values[name].present and name not in replaced}
  return found | ({operands: [typed.operand(value) for value in rest]} if operands else {})


def _read(argv: Sequence[str], fields: Mapping[str, dataclasses.Field],
          values: flags.FlagValues) -> tuple[list[str], set[str]]:
  """Sets the values -> the arguments that are no flags, and the flags of a preset that others replace."""
  replaced: set[str] = set()
  arguments = flagfile.expanded(argv[1:])
  try:
    rest = values([argv[0], *arguments])[1:]
    if 'preset' in fields and values['preset'].value:  # read again, the preset first, so that the flags beside it win
      beside = {name for name in fields if values[name].present}
      replaced = {other for name, other in REPLACES.items() if name in beside} - beside
      preset = _preset_path(fields['preset'], values['preset'].value)
      values.unparse_flags()
      rest = values([argv[0], *flagfile.expanded([f'--flagfile={preset}']), *arguments])[1:]
  except flags.Error as error:
    raise UserError(_mistake(error, fields)) from error
  return rest, replaced


def _given_once(argv: Sequence[str], fields: Mapping[str, dataclasses.Field], operands: bool) -> dict[str, Any]:
  """{flag: value} of the command line itself, which is sound.

  Raises UserError where it gives a flag twice that takes one value.
  """
  values = _CommandLine()
  values.set_gnu_getopt(operands)
  for f in fields.values():
    DEFINE_EACH[f.type](f.name, None, f.metadata['help'], flag_values=values)
  flags.DEFINE_multi_string('flagfile', None, 'files of flags', flag_values=values)
  values(argv)
  given = {name: values[name].value for name in fields if values[name].present}
  for name, found in given.items():
    if fields[name].type == Texts:
      continue
    if values[name].present > 1:
      shown = ' '.join(f'--{name}={value}' for value in found) if isinstance(found, list) else f'--{name}'
      raise UserError(f'{shown}: given twice; expected one value')
    given[name] = found[0] if isinstance(found, list) else found
  return given


def _mistake(error: Exception, fields: Mapping[str, dataclasses.Field]) -> str:
  """What absl found wrong, in one line that names the flag, its value and what was expected."""
  if isinstance(error, flags.UnrecognizedFlagError):
    near = difflib.get_close_matches(error.flagname, fields, 1)
    guess = f'Did you mean --{near[0]}?' if near else '--helpfull lists them'
    return f'--{error.flagname}: no such flag. {guess}'
  if isinstance(error, flags.IllegalFlagValueError):
    flag, _, value = str(error).removeprefix('flag --').partition(':')[0].partition('=')
    if flag in fields:
      return f'--{flag}={value}: expected {KINDS[fields[flag].type]}'
  if (flag := str(error).removeprefix('Missing value for flag ').lstrip('-')) in fields:
    return f'--{flag}: expected {KINDS[fields[flag].type]}'
  return ' '.join(str(error).split())


def _preset_path(f: dataclasses.Field, name: str) -> pathlib.Path:
  if name not in PRESETS:
    raise UserError(f'--preset={name}: expected {expected(f.metadata)}')
  return PRESETS[name]
