"""What the dataclasses of flags are made of: fields with help and limits, and the checks that all of them share."""
import dataclasses
import math

from flags.errors import UserError


def field(default, text, *, choices=None, minimum=None, maximum=None, above=None, below=None):
  """A dataclass field with its help text and the values that it accepts."""
  limits = dict(choices=choices, minimum=minimum, maximum=maximum, above=above, below=below)
  metadata = {'help': text, **{k: v for k, v in limits.items() if v is not None}}
  return dataclasses.field(default=default, metadata=metadata)


def expected(metadata):
  """The accepted values of a field in words, '' where any value will do."""
  if 'choices' in metadata:
    return 'one of ' + ', '.join(c or "''" for c in metadata['choices'])
  words = [('minimum', 'at least'), ('above', 'more than'), ('maximum', 'at most'), ('below', 'less than')]
  return ' and '.join(f'{word} {metadata[key]}' for key, word in words if key in metadata)


def accepts(metadata, value):
  return (value in metadata.get('choices', [value]) and value >= metadata.get('minimum', value)
          and value <= metadata.get('maximum', value)
          and not ('above' in metadata and value <= metadata['above'])
          and not ('below' in metadata and value >= metadata['below']))


KINDS = {int: 'an integer', float: 'a number', bool: 'true or false', str: 'text'}


class Checked:
  """Checks each field against its type and metadata, then the fields together with `check`."""

  def __post_init__(self):
    for f in dataclasses.fields(self):
      value = getattr(self, f.name)
      if type(value) is not f.type and not (f.type is float and type(value) is int):
        raise UserError(f'--{f.name}={value}: expected {KINDS[f.type]}')
      if f.type is float and not math.isfinite(value):
        raise UserError(f'--{f.name}={value}: expected a finite number')
      if not accepts(f.metadata, value):
        raise UserError(f'--{f.name}={value}: expected {expected(f.metadata)}')
    self.check()

  def check(self):
    """Raises UserError where fields contradict each other."""

  def refuse(self, *names, beside):
    """Raises UserError where one of the fields `names`, which `beside` leaves without effect, is not at its default."""
    for name in names:
      value, default = getattr(self, name), self.__dataclass_fields__[name].default
      if value != default:
        raise UserError(f'--{name}={value} has no effect beside {beside}: expected it left out, or its default, '
                        f"{default if default != '' else 'empty'}")


def unescaped(text):
  r"""Text as given in a flag, with \n and \t put in."""
  return text.replace('\\n', '\n').replace('\\t', '\t')


def share(text):
  """A field for a share that chance takes of something, drawn in steps of 1/256; 0 takes nothing."""
  return field(0.0, text, minimum=0.0, maximum=255 / 256)
