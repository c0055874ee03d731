"""Many prompts from one file: one a line, or a JSON object a line."""
import contextlib
import json
import math
import re
import sys
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, NoReturn

from charlm.generation.prompts import Prompt, read_text, unknown_characters
from data_pipeline.tokenizers.base import InvalidText, Tokenizer
from flags.errors import UserError

MAX_BYTES = 2**30  # of the file, which is held in memory
OBJECT = re.compile(rb'\s*\{\s*"')  # what begins a JSON object, whole or not
JSON_NAMES = '.jsonl', '.ndjson'


class Item(NamedTuple):
  """A prompt of a list."""
  prompt: Prompt
  keys: dict[str, Any]  # what else its JSON object has


class PromptList(Collection[Item]):
  """Prompts in their order, parsed as they are asked for. A million of them take little more memory than their text."""

  def __init__(self, source: str, text: bytes, is_json: bool):
    """Reads all lines once, so that mistakes are told before any work.

    Args:
      source: the flag that named the file, for messages.
      text: the file.
      is_json: whether the lines are JSON objects. They are, too, if the first one is, or begins as one with {".

    Raises:
      UserError: there is no prompt, a line is no JSON object with one, or the file is JSON, but not line by line.
    """
    lines = text.removesuffix(b'\n').split(b'\n') if text else []
    self._source, self._lines = source, [line.removesuffix(b'\r') for line in lines]
    first = next((line for line in self._lines if line.strip()), b'')
    self._is_json = is_json or bool(OBJECT.match(first)) or isinstance(_json(first), dict)
    if not self._is_json and text.lstrip()[:1] in (b'[', b'{') and isinstance(whole := _json(text), (list, dict)):
      raise UserError(f'{source}: expected a prompt on each line, plain or in a JSON object such as '
                      f'{{"prompt": "It was"}}; found a JSON {"array" if isinstance(whole, list) else "object"}')
    self._count = sum(1 for _ in self)
    if not self._count:
      raise UserError(f'{source}: has no prompts; expected one a line')

  def __len__(self) -> int:
    return self._count

  def __iter__(self) -> Iterator[Item]:
    for number, line in enumerate(self._lines, 1):
      source = f'{self._source}: line {number}'
      if not self._is_json:
        yield Item(Prompt(source, line), {})
      elif line.strip():
        yield _item(source, line)

  def __contains__(self, item: object) -> bool:
    return any(item == own for own in self)


def read_list(path: str) -> PromptList:
  """The prompts of --prompts, '-' being standard input. Raises UserError where they cannot be read, or are none."""
  source = f'--prompts={path}'
  try:
    with contextlib.nullcontext(sys.stdin.buffer) if path == '-' else open(path, 'rb') as file:
      text = read_text(file, source, path, MAX_BYTES)
  except OSError as error:
    raise UserError(f'{source}: expected a file that can be read ({error.strerror})') from error
  return PromptList(source, text, path.lower().endswith(JSON_NAMES))


def check(items: Collection[Item], source: str, tokenizer: Tokenizer) -> None:
  """Warns of characters that the model does not know, once for all prompts.

  Args:
    items: the prompts.
    source: the flag that named them, for messages.
    tokenizer: the model's.

  Raises:
    UserError: the tokenizer cannot read one.
  """
  for item in items if not tokenizer.reads_any_bytes else ():
    try:
      item.prompt.text.decode()
    except UnicodeDecodeError as error:
      wrong = InvalidText(error.start, item.prompt.text[error.start])
      raise UserError(f'{item.prompt.source}: {wrong}') from None
  if unknown := unknown_characters(tokenizer, (item.prompt.text for item in items)):
    print(f'warning: {source}: the model has never seen {unknown}', file=sys.stderr)


def _json(text: bytes) -> Any:
  """-> its value, None if it is no JSON."""
  try:
    return json.loads(text.decode())
  except (ValueError, RecursionError):
    return None


def _item(source: str, line: bytes) -> Item:
  try:
    found = json.loads(line.decode(), parse_constant=_no_number, parse_float=_finite)
  except (ValueError, RecursionError) as error:
    why = f'{error.msg} at character {error.pos + 1}' if isinstance(error, json.JSONDecodeError) else str(error)
    raise UserError(f'{source}: expected a JSON object such as {{"prompt": "It was"}} ({why})') from None
  prompt = found.pop('prompt', None) if isinstance(found, dict) else None
  if not isinstance(prompt, str):
    raise UserError(f'{source}: expected a JSON object such as {{"prompt": "It was"}}')
  try:
    return Item(Prompt(source, prompt.encode()), found)
  except UnicodeEncodeError:
    raise UserError(f'{source}: expected a "prompt" of whole characters, found half of one') from None


def _finite(digits: str) -> float:
  if math.isinf(number := float(digits)):
    raise ValueError(f'{digits[:40]} is too large a number')
  return number


def _no_number(name: str) -> NoReturn:
  raise ValueError(f'{name} is no number in JSON')
