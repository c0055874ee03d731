"""The tokenizers by the value of --tokenizer, and how one is trained and loaded."""
import json
import os
import pathlib
from collections.abc import Iterable

from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from data_pipeline.tokenizers.sentencepiece import SentencePieceTokenizer
from flags.errors import RunError, UserError

TOKENIZERS: dict[str, type[Tokenizer]] = {
    'byte': ByteTokenizer,
    'char': CharTokenizer,
    'sentencepiece': SentencePieceTokenizer,
}


def train_tokenizer(kind: str, blocks: Iterable[bytes], vocab_size: int = 1000,
                    on_invalid: str = 'error') -> Tokenizer:
  """Makes a tokenizer for a text.

  Args:
    kind: one of TOKENIZERS.
    blocks: the text; byte does not read it.
    vocab_size: how many pieces sentencepiece learns.
    on_invalid: 'error', or 'replace' to read bytes that are not UTF-8 as U+FFFD.

  Raises:
    InvalidText: the text is not UTF-8.
    UserError: SentencePiece cannot learn `vocab_size` pieces from the text.
  """
  return TOKENIZERS[kind].train(blocks, vocab_size, on_invalid)


def load_tokenizer(folder: str | os.PathLike) -> Tokenizer:
  """The tokenizer that `Tokenizer.save` wrote into `folder`.

  Raises:
    UserError: there is none, or a damaged one.
    RunError: a file cannot be read.
  """
  path = pathlib.Path(folder) / 'tokenizer.json'
  try:
    facts = json.loads(path.read_text('utf-8'))
    kind = facts['kind']
    tokenizer = TOKENIZERS[kind].load(facts, path.parent) if kind in TOKENIZERS else None
  except (FileNotFoundError, NotADirectoryError) as error:
    raise UserError(f'{error.filename}: expected a saved tokenizer, found no such file') from error
  except UserError:
    raise
  except (OSError, MemoryError) as error:
    raise RunError(f'{getattr(error, "filename", None) or path}: cannot be read '
                   f'({getattr(error, "strerror", None) or "not enough memory"})') from error
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise UserError(f'{path}: expected a saved tokenizer ({error})') from error
  if not tokenizer:
    raise UserError(f'{path}: expected a tokenizer of this version, found the kind {kind!r}')
  if facts.get('fingerprint', tokenizer.fingerprint) != tokenizer.fingerprint:  # older files have none
    raise UserError(f'{path}: expected a saved tokenizer (its contents are not those that were saved)')
  return tokenizer
