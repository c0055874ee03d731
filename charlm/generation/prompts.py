"""Prompts: the text that a model goes on from, and what an empty one is."""
import codecs
import sys
from typing import NamedTuple

import numpy as np

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
    UserError: --prompt_file cannot be read, is empty or UTF-16, or has more than MAX_BYTES.
  """
  if not config.prompt_file:
    return Prompt('--prompt', config.prompt.encode('utf-8', 'surrogateescape'))
  source = f'--prompt_file={config.prompt_file}'
  try:
    with open(config.prompt_file, 'rb') as file:
      text = file.read(MAX_BYTES + 1)
  except OSError as error:
    raise UserError(f'{source}: expected a file that can be read ({error.strerror})') from error
  if len(text) > MAX_BYTES:
    raise UserError(f'{source}: expected at most {MAX_BYTES:,} bytes')
  if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    raise UserError(f'{source}: expected UTF-8, and this is UTF-16')
  text = text.removeprefix(codecs.BOM_UTF8)
  if not text:
    raise UserError(f'{source}: is empty; expected text to go on from. Leave the flag out to start afresh')
  return Prompt(source, text)


def empty_prompt(tokenizer: Tokenizer) -> bytes:
  """What is read in place of an empty prompt: a newline; or b'', for token 0, if the tokenizer has no newline."""
  return b'\n' if tokenizer.decode(tokenizer.encode(b'\n')) == b'\n' else b''


def encode_prompt(tokenizer: Tokenizer, text: bytes) -> np.ndarray:
  """A prompt -> ids [N] int32, N at least 1. Raises InvalidText where the tokenizer cannot read it."""
  ids = tokenizer.encode(text or empty_prompt(tokenizer))
  return ids if ids.size else np.zeros(1, np.int32)


def encode_user_prompt(tokenizer: Tokenizer, prompt: Prompt) -> np.ndarray:
  """As `encode_prompt`, with messages for the user.

  Warns on standard error of characters that the model does not know.

  Raises:
    UserError: the prompt is not UTF-8, and the tokenizer reads nothing else.
  """
  try:
    ids = encode_prompt(tokenizer, prompt.text)
  except InvalidText as error:
    raise UserError(f'{prompt.source}: byte 0x{error.byte:02x} at offset {error.offset} is not UTF-8: expected UTF-8, '
                    f'which the {tokenizer.kind} tokenizer of this model reads') from error
  unknown = [c for c in sorted(set(prompt.text.decode('utf-8', 'ignore')))
             if tokenizer.decode(tokenizer.encode(c)) != c.encode()]
  if unknown:
    more = f' and {len(unknown) - MAX_NAMED} more' if len(unknown) > MAX_NAMED else ''
    named = ' '.join(map(repr, unknown[:MAX_NAMED]))
    print(f'warning: {prompt.source}: the model has never seen {named}{more}', file=sys.stderr)
  return ids
