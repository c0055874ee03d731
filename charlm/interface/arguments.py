"""What a model is given in Python, checked by the limits of the flags of the same names."""
import contextlib
import dataclasses
import numbers
import operator
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from charlm.interface.state import State, check
from flags.errors import RunError, UserError
from flags.generation import SampleConfig
from flags.schema import Texts

BYTES = bytes, bytearray, memoryview  # they are sequences, but of numbers
FLAG = re.compile(r'--(?=[a-z]\w+\b)')


@contextlib.contextmanager
def named() -> Iterator[None]:
  """Errors name arguments, which are called as the flags are."""
  try:
    yield
  except (UserError, RunError) as error:
    raise type(error)(FLAG.sub('', str(error))) from error


def options(**given: Any) -> SampleConfig:
  """The options of a text. Raises UserError where one is not what its flag may be."""
  types = {f.name: f.type for f in dataclasses.fields(SampleConfig)}
  with named():
    return SampleConfig(**{name: _plain(name, value, types[name]) for name, value in given.items()})


def _plain(name: str, value: Any, kind: Any) -> Any:
  """A number of Python's own for one of NumPy's; all else as it is."""
  if kind == Texts and (isinstance(value, BYTES) or not isinstance(value, Sequence)):
    raise UserError(f'{name}={value!r}: expected a text, or a list of texts')
  if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
    return float(value)
  if kind is int and hasattr(value, '__index__') and not isinstance(value, bool):
    return operator.index(value)
  return value


def folder(name: str, given: Any) -> str:
  """A folder that was given, as `open` takes them."""
  if not isinstance(given, (str, os.PathLike)):
    raise UserError(f'{name}={given!r}: expected a folder, as text or as a path')
  return os.fspath(given)


def count(name: str, value: Any, most: int) -> int:
  """A number of things, 1 to `most`."""
  if isinstance(value, bool) or not hasattr(value, '__index__') or not 1 <= operator.index(value) <= most:
    raise UserError(f'{name}={value!r}: expected an integer, at least 1 and at most {most:,}')
  return operator.index(value)


def texts(name: str, given: Any) -> list[bytes]:
  """Texts that were given, as bytes. name: of the argument."""
  if isinstance(given, (str, *BYTES)) or not isinstance(given, Sequence):
    raise UserError(f'{name}={str(given)[:20]!r}: expected a list of texts')
  return [text(f'{name}[{i}]', one) for i, one in enumerate(given)]


def text(name: str, given: Any) -> bytes:
  """A text that was given, as bytes. name: of the argument."""
  if isinstance(given, bytes):
    return given
  if not isinstance(given, str):
    raise UserError(f'{name}={given!r}: expected a text')
  try:
    return given.encode()
  except UnicodeEncodeError as error:
    raise UserError(f'{name}: expected text, found half a character, {given[error.start]!a}, at index '
                    f'{error.start}') from None


def states(given: State | Sequence[State] | None, fresh: State, rows: int) -> list[State]:
  """The state of each text: those that were given, one that was given for all, or the fresh one."""
  if given is None:
    return [fresh] * rows
  if isinstance(given, State) or not isinstance(given, Sequence):
    return [check('state', given, fresh.model)] * rows
  if len(given) != rows:
    raise UserError(f'state: expected a state, or a list of {rows}, one for each text; found {len(given)}')
  return [check(f'state[{i}]', one, fresh.model) for i, one in enumerate(given)]
