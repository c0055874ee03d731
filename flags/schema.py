"""What the dataclasses of flags are made of: fields with help and limits, and the checks that all of them share."""
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from flags.errors import UserError

KINDS = {int: 'an integer', float: 'a number', bool: 'true or false', str: 'text'}


def field(default: Any, text: str, *, choices: Sequence[str] | None = None, minimum: float | None = None,
          maximum: float | None = None, above: float | None = None, below: float | None = None,
          only_with: Mapping[str, tuple] | None = None, short: str | None = None) -> Any:
  """A field of a dataclass of flags.

  Args:
    default: its default.
    text: what it is for, for --helpfull.
    choices, minimum, maximum, above, below: the values that it accepts.
    only_with: {name of another field: its values with which this one has an effect}; () stands for any that is not
      0, false or empty.
    short: a phrase for --help, of a flag that most people set.
  """
  rules = dict(choices=choices, minimum=minimum, maximum=maximum, above=above, below=below, only_with=only_with,
               short=short)
  metadata = {'help': text, **{k: v for k, v in rules.items() if v is not None}}
  return dataclasses.field(default=default, metadata=metadata)


def expected(metadata: Mapping[str, Any]) -> str:
  """The accepted values of a field in words, '' where any value will do."""
  if 'choices' in metadata:
    return 'one of ' + ', '.join(c or "''" for c in metadata['choices'])
  words = [('minimum', 'at least'), ('above', 'more than'), ('maximum', 'at most'), ('below', 'less than')]
  return ' and '.join(f'{word} {metadata[key]}' for key, word in words if key in metadata)


def accepts(metadata: Mapping[str, Any], value: Any) -> bool:
  """Whether a field with this metadata accepts a value of its type."""
  return (value in metadata.get('choices', [value]) and value >= metadata.get('minimum', value)
          and value <= metadata.get('maximum', value)
          and not ('above' in metadata and value <= metadata['above'])
          and not ('below' in metadata and value >= metadata['below']))


class Checked:
  """Checks each field against its type and its rules, then the fields together with `check`."""

  def __post_init__(self) -> None:
    fields = dataclasses.fields(self)  # type: ignore[arg-type]
    for f in fields:
      value, kind = getattr(self, f.name), cast(Any, f.type)
      if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f'--{f.name}={value}: expected {KINDS[kind]}')
      if kind is float and not math.isfinite(value):
        raise UserError(f'--{f.name}={value}: expected a finite number')
      if not accepts(f.metadata, value):
        raise UserError(f'--{f.name}={value}: expected {expected(f.metadata)}')
    for f in fields:
      for other, values in f.metadata.get('only_with', {}).items():
        beside = getattr(self, other)
        if not (beside in values if values else beside):
          self.refuse(f.name, beside=f'--{other}={beside}')
    self.check()

  def check(self) -> None:
    """Raises UserError where fields contradict each other in ways that no rule of a field says."""

  def refuse(self, *names: str, beside: str) -> None:
    """Raises UserError where one of the fields `names`, which `beside` leaves without effect, is not at its default."""
    defaults = {f.name: f.default for f in dataclasses.fields(self)}  # type: ignore[arg-type]
    for name in names:
      value, default = getattr(self, name), defaults[name]
      if value != default:
        raise UserError(f'--{name}={value} has no effect beside {beside}: expected it left out, or its default, '
                        f"{default if default != '' else 'empty'}")


def unescaped(text: str) -> str:
  r"""Text as given in a flag, with \n and \t put in."""
  return text.replace('\\n', '\n').replace('\\t', '\t')


def share(text: str, **rules: Any) -> Any:
  """A field for a share of units that is drawn at random, in steps of 1/256; 0 takes nothing."""
  return field(0.0, text, minimum=0.0, maximum=255 / 256, **rules)
