"""Prompts: the text that a model goes on from, and what an empty one is."""
import sys
from collections.abc import Iterable
from typing import IO, NamedTuple

import numpy as np

from data_pipeline.corpus import kinds
from data_pipeline.tokenizers.base import InvalidText, Tokenizer
from flags.errors import UserError
from flags.generation import SampleConfig

MAX_BYTES = 2**26  # of a prompt, which is read at once
MAX_NAMED = 20  # unknown characters that a warning lists


class Prompt(NamedTuple):
  """A prompt, and where it came from, which messages name."""
  source: str  # such as --prompt
  text: bytes


def given_prompt(config: SampleConfig) -> Prompt:
  """The prompt that the flags give. A file is read as it is, its line ends included, less a byte order mark.

  Raises:
    UserError: --prompt_file cannot be read, is no text, is empty, or has more than MAX_BYTES.
  """
  if not config.prompt_file:
    return Prompt('--prompt', config.prompt.encode('utf-8', 'surrogateescape'))
  source = f'--prompt_file={config.prompt_file}'
  try:
    with open(config.prompt_file, 'rb') as file:
      text = read_text(file, source, config.prompt_file, MAX_BYTES)
  except OSError as error:
    raise UserError(f'{source}: expected a file that can be read ({error.strerror})') from error
  if not text:
    raise UserError(f'{source}: is empty; expected text to go on from. Leave the flag out to start afresh')
  return Prompt(source, text)


def read_text(file: IO[bytes], source: str, path: str, most: int) -> bytes:
  """Reads a file whole, less a byte order mark.

  Args:
    file: is open.
    source: the flag that named it, for messages.
    path: its name.
    most: bytes that it may have.

  Raises:
    UserError: it has more, or is no text.
    OSError: it cannot be read.
  """
  text = file.read(most + 1)
  if len(text) > most:
    raise UserError(f'{source}: expected at most {most:,} bytes')
  start = text[:kinds.START_BYTES]
  packing, kind = kinds.packing_of(start, path), kinds.kind_of(start)
  if packing:
    kind = kinds.Kind(packing.name, kinds.UNPACK.format(f'{packing.unpacker} {{}}'))
  if kind:
    raise UserError(f'{source}: {kinds.advise(kind, path)}')
  return text.removeprefix(kinds.MARK)


def empty_prompt(tokenizer: Tokenizer) -> bytes:
  """What is read in place of an empty prompt: a newline; or b'', for token 0, if the tokenizer has no newline."""
  return b'\n' if tokenizer.decode(tokenizer.encode(b'\n')) == b'\n' else b''


def encode_prompt(tokenizer: Tokenizer, text: bytes) -> np.ndarray:
  """A prompt -> ids [N] int32, N at least 1. Raises InvalidText where the tokenizer cannot read it."""
  ids = tokenizer.encode(text or empty_prompt(tokenizer))
  return ids if ids.size else np.zeros(1, np.int32)


def encode_user_prompt(tokenizer: Tokenizer, prompt: Prompt) -> np.ndarray:
  """As `encode_named`. Warns on standard error of characters that the model does not know."""
  ids = encode_named(tokenizer, prompt)
  if unknown := unknown_characters(tokenizer, [prompt.text]):
    print(f'warning: {prompt.source}: the model has never seen {unknown}', file=sys.stderr)
  return ids


def encode_named(tokenizer: Tokenizer, prompt: Prompt) -> np.ndarray:
  """As `encode_prompt`. Raises UserError where the tokenizer cannot read it."""
  try:
    return encode_prompt(tokenizer, prompt.text)
  except InvalidText as error:
    raise UserError(f'{prompt.source}: byte 0x{error.byte:02x} at offset {error.offset} is not UTF-8: expected UTF-8, '
                    f'which the {tokenizer.kind} tokenizer of this model reads') from error


def unknown_characters(tokenizer: Tokenizer, texts: Iterable[bytes]) -> str:
  """The characters of texts that the model does not know, for a message; '' where it knows all."""
  characters = {c for text in texts for c in text.decode('utf-8', 'ignore')}
  unknown = [c for c in sorted(characters) if tokenizer.decode(tokenizer.encode(c)) != c.encode()]
  more = f' and {len(unknown) - MAX_NAMED} more' if len(unknown) > MAX_NAMED else ''
  return ' '.join(map(repr, unknown[:MAX_NAMED])) + more
