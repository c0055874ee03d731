"""What the dataclasses of flags are made of: fields with help, limits and rules, and the checks that they share."""
import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

from flags import typed
from flags.errors import UserError

Texts = tuple[str, ...]  # of a flag that may be given several times
KINDS: dict[Any, str] = {int: 'an integer', float: 'a number', bool: 'true or false', str: 'text', Texts: 'text'}
MANY = 10**9  # at most so many steps, tokens, ...: more than any run has, and still a 32-bit integer
LARGE = 1e6  # at most so large a factor: more is no use, and float32 still has its square many times over


def field(default: Any, text: str, *, short: str = '', only_with: str = '', not_with: str = '',
          path: bool = False, escapes: bool = False, choices: Sequence[str] | None = None, minimum: float | None = None,
          maximum: float | None = None, above: float | None = None, below: float | None = None) -> Any:
  """A dataclass field that is a flag.

  Args:
    default: the value where the flag is not given.
    text: what it does and when to use it, for --helpfull.
    short: the same in a few words, for --help. Empty for flags that few people set.
    only_with: a condition on other fields of the same dataclass, as of `holds`. The flag has no effect unless it holds.
    not_with: such a condition. The flag has no effect where it holds.
    path: whether it is a path, as in `typed.path`; a text that charlm knows by name may stand in its place.
    escapes: whether it is text that may have escapes, as in `typed.unescaped`.
    choices: the accepted values.
    minimum, maximum, above, below: the limits of a number; the last two are themselves not accepted. Every number has
      an upper one, MANY or LARGE unless it is given.
  """
  assert type(default) not in (int, float) or {minimum, above} != {None}, text
  if maximum is None and below is None:
    maximum = {int: MANY, float: LARGE}.get(type(default))
  optional = dict(short=short or None, only_with=only_with or None, not_with=not_with or None, choices=choices,
                  path=path or None, escapes=escapes or None, minimum=minimum, maximum=maximum, above=above,
                  below=below)
  return dataclasses.field(default=default, metadata={
    'help': text, **{name: value for name, value in optional.items() if value is not None}})


def like(group: Any, name: str, default: Any = None) -> Any:
  """A field that another dataclass has, with that default or another one."""
  f = group.__dataclass_fields__[name]
  return dataclasses.field(default=f.default if default is None else default, metadata=f.metadata)


def share(text: str, **options: Any) -> Any:
  """A field for the share of something that is dropped at random, in steps of 1/256; 0 drops nothing."""
  return field(0.0, text, minimum=0.0, maximum=255 / 256, **options)


def expected(metadata: Mapping[str, Any]) -> str:
  """The accepted values of a field in words, '' where any value will do."""
  if 'choices' in metadata:
    return 'one of ' + ', '.join(choice for choice in metadata['choices'] if choice)
  words = [('minimum', 'at least'), ('above', 'more than'), ('maximum', 'at most'), ('below', 'less than')]
  return ' and '.join(f'{word} {metadata[key]:,}' for key, word in words if key in metadata)


def accepts(metadata: Mapping[str, Any], value: Any) -> bool:
  """Whether a value is within the limits of a field."""
  return (value in metadata.get('choices', [value]) and value >= metadata.get('minimum', value)
          and value <= metadata.get('maximum', value)
          and not ('above' in metadata and value <= metadata['above'])
          and not ('below' in metadata and value >= metadata['below']))


def alternatives(condition: str) -> dict[str, list[str]]:
  """The fields that a condition names -> the values that it accepts of each; none where any value but 0, false and
  empty will do."""
  parts = [part.partition('=') for part in condition.split(' or ')]
  return {name: values.split('|') if equals else [] for name, equals, values in parts}


def holds(condition: str, values: 'Checked') -> bool:
  """Whether a condition of `only_with` or `not_with` holds.

      multi_step                       the field is set: it is not 0, false or empty
      schedule=cosine|linear           it has one of these values, upper or lower case
      corpus=tfds:*                    its value has this form (of fnmatch)
      mc_dropout or free_running       one of these conditions holds
  """
  def matches(value: Any, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(str(value).lower(), pattern) for pattern in patterns) if patterns else bool(value)

  return any(matches(getattr(values, name), patterns) for name, patterns in alternatives(condition).items())


def in_words(metadata: Mapping[str, Any]) -> str:
  """The rules of a field in words: 'only with --schedule=cosine or linear'; '' where it has none."""
  rules = []
  for key, words in [('only_with', 'only with'), ('not_with', 'not with')]:
    if key in metadata:
      conditions = [f'--{name}={" or ".join(values)}' if values else f'--{name}'
                    for name, values in alternatives(metadata[key]).items()]
      rules.append(f'{words} {" or ".join(conditions)}')
  return ', '.join(rules)


@dataclasses.dataclass(frozen=True)
class Checked:
  """Checks each field against its type, its limits and its rules, then the fields together with `check`."""

  def __post_init__(self) -> None:
    for f in dataclasses.fields(self):
      value = getattr(self, f.name)
      if f.type == Texts:
        self._check_texts(f, value)
        continue
      if type(value) is not f.type and not (f.type is float and type(value) is int):
        raise UserError(f'--{f.name}={value}: expected {KINDS[f.type]}')
      if f.type is float and not -math.inf < value < math.inf:
        raise UserError(f'--{f.name}={value}: expected a finite number')
      if f.type is str and not is_text(value):
        raise UserError(f'--{f.name}={value!a}: expected text in UTF-8 without NUL')
      if not accepts(f.metadata, value):
        raise UserError(f'--{f.name}={value}: expected {expected(f.metadata)}')
      if 'path' in f.metadata:  # it may come from a file that was written in another locale
        object.__setattr__(self, f.name, typed.path(f.name, value))
    for f in dataclasses.fields(self):
      self._check_rules(f)
    self.check()

  def check(self) -> None:
    """Raises UserError where fields contradict each other."""

  def _check_texts(self, f: dataclasses.Field, value: Any) -> None:
    """Raises UserError unless a value is texts. One text may be given as such; an empty one is none."""
    texts = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    object.__setattr__(self, f.name, () if texts == ('',) else texts)
    for text in texts:
      if not isinstance(text, str) or not is_text(text):
        raise UserError(f'--{f.name}={text!a}: expected text in UTF-8 without NUL')

  def _check_rules(self, f: dataclasses.Field) -> None:
    """Raises UserError where a field has no effect beside the others, and is not at its default."""
    value = getattr(self, f.name)
    for key, has_effect in [('only_with', True), ('not_with', False)]:
      condition = f.metadata.get(key, '')
      if condition and value != f.default and holds(condition, self) != has_effect:
        beside = ' and '.join(f'--{name}={getattr(self, name)}' for name in alternatives(condition))
        wanted = f', {in_words(f.metadata)}' if has_effect else ''
        default = f.default if f.default not in ('', ()) else 'empty'
        raise UserError(f'{typed.assigned(f.name, value)} has no effect beside {beside}{wanted}: expected it left out, '
                        f'or its default, {default}')


def is_text(value: str) -> bool:
  """Whether a command line could hold the text: without NUL, and bytes that are not UTF-8 as Python stands for them."""
  try:
    return b'\0' not in value.encode('utf-8', 'surrogateescape')
  except UnicodeEncodeError:
    return False
