"""The texts that charlm-score is given: found and read as corpora are, and each made into tokens by itself."""
import contextlib
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.corpus.account import shown
from data_pipeline.corpus.files import pydoc_parts, text_parts
from data_pipeline.corpus.kinds import MARK, START_BYTES, UNPACK, Kind, advise, kind_of, packing_of
from data_pipeline.corpus.text import Part, Text
from data_pipeline.prepared import is_prepared
from data_pipeline.text_reader import TextReader
from data_pipeline.token_files import mark_document_ends
from data_pipeline.tokenizers.base import Tokenizer, decode_blocks
from flags.data import is_path
from flags.errors import UserError

STDIN, STDIN_NAME, STDIN_PATH = '-', 'standard input', '/dev/stdin'
# What a text takes at least while it is scored: itself, twice, and for each token its id, its end, its place in the
# rows and its score.
BYTES_PER_BYTE, BYTES_PER_TOKEN = 2, 28


class Given(NamedTuple):
  """A text that is there to be read."""
  name: str
  text: Text
  spec: str  # what named it: a file, or the folder or glob that it is of
  path: str  # of the file, which the name shows in one line; empty where there is none


class TokenText(NamedTuple):
  """A text as a model reads it."""
  name: str
  data: bytes  # with U+FFFD for what is not UTF-8, where the tokenizer reads nothing else
  ids: np.ndarray  # [N]
  ends: np.ndarray  # [N] int64: how many bytes of `data` there are up to the end of each token
  documents: list[int]  # indices of the tokens where documents start, without the first


def find(specs: Sequence[str]) -> list[Given]:
  """Finds texts, and says on standard error what is left out of folders and globs.

  Args:
    specs: files, folders and globs, or what else a corpus of files is called; - is standard input.

  Returns:
    The texts in the order of `specs`, those of a folder or a glob sorted.

  Raises:
    UserError: one of them has no text, or cannot be read.
  """
  if not specs:
    raise UserError('FILE: expected texts to score, such as book.txt, or - for standard input')
  if specs.count(STDIN) > 1:
    raise UserError(f'{STDIN}: given twice; expected standard input once')
  with _unflagged():
    return [given for spec in specs for given in ([_standard_input()] if spec == STDIN else _found(spec))]


def read(given: Given, tokenizer: Tokenizer, *, separator: bytes | None, on_invalid: str, memory: int) -> TokenText:
  """Reads a text, and warns of characters that the tokenizer does not know.

  Args:
    given: from `find`.
    tokenizer: the model's.
    separator: what ends documents inside the text, as of `Text.document_starts`; None: it is one document.
    on_invalid: 'error', or 'replace' to read bytes that are not UTF-8 as U+FFFD.
    memory: bytes that can be used.

  Raises:
    UserError: the text cannot be read, is not UTF-8, or needs more memory.
  """
  data, parts, documents, count = bytearray(), [], [], 0
  with _unflagged(), TextReader(given.text, spec=given.spec, action=f'reading {shown(given.name)}',
                                progress=True) as reader:
    blocks: Iterable[bytes] = reader
    if separator is not None:
      blocks = mark_document_ends(reader, given.text.document_starts(separator))
    if not tokenizer.reads_any_bytes:
      blocks = (text.encode() for text in decode_blocks(blocks, on_invalid))
    for ids in tokenizer.encode_blocks(_kept(blocks, data)):
      if ids.size:
        parts.append(ids)
      else:
        documents.append(count)
      count += ids.size
      _check_memory(given, len(data), count, memory)
  ids, text = np.concatenate(parts), bytes(data)
  ends = _token_ends(tokenizer, text, ids)
  assert ends[-1] == len(text), (ends[-1], len(text))
  found = TokenText(given.name, text, ids, ends, documents)
  _warn_of_unknown(found, tokenizer)
  return found


def read_bytes(given: Given) -> bytes:
  """The bytes of a text as they are. Raises UserError where they cannot be read."""
  with _unflagged(), TextReader(given.text, spec=given.spec, action=f'reading {shown(given.name)}',
                                progress=True) as reader:
    return b''.join(reader)


@contextlib.contextmanager
def _unflagged() -> Iterator[None]:
  """Takes the flag out of the messages of corpora, which are named without one here."""
  try:
    yield
  except UserError as error:
    raise UserError(str(error).removeprefix('--corpus=')) from error


def _found(spec: str) -> list[Given]:
  if spec.startswith('tfds:'):
    raise UserError(f'{spec}: expected files; a data set is for charlm-evaluate --corpus')
  if is_prepared(spec) and _is_missing(f'./{spec}'):
    raise UserError(f'{spec}: expected files; prepared tokens are for charlm-evaluate --corpus')
  if _is_missing(spec):
    raise UserError(f'{spec}: no such file or folder; expected a file, a folder or a glob, or - for standard input')
  parts, account = pydoc_parts() if spec == 'pydoc' else text_parts(spec)
  if account.left_out:
    print(f'{spec}: {account.what_is_left_out()}', file=sys.stderr)
  if not parts:
    raise UserError(f'{spec}: expected text, found 0 bytes')
  return [Given(part.name, Text(spec, [part]), spec, part.path) for part in parts]


def _is_missing(spec: str) -> bool:
  try:
    os.lstat(spec)
  except (FileNotFoundError, NotADirectoryError):
    return is_path(spec) and not glob.has_magic(spec)
  except OSError:  # which is told of when it is read
    pass
  return False


def _standard_input() -> Given:
  try:
    data = sys.stdin.buffer.read()
  except OSError as error:
    raise UserError(f'{STDIN_NAME}: cannot be read ({error.strerror})') from error
  packing = packing_of(data[:START_BYTES], '')
  kind = Kind(packing.name, UNPACK.format(f'{packing.unpacker} {{}}')) if packing else kind_of(data[:START_BYTES])
  if kind:
    raise UserError(f'{STDIN_NAME}: {advise(kind, "FILE")}')
  mark = len(MARK) if data.startswith(MARK) else 0
  if len(data) == mark:
    raise UserError(f'{STDIN_NAME}: expected text, found 0 bytes')
  part = Part(STDIN_NAME, len(data) - mark, lambda start: iter([data[mark + start:]]), mark=mark)
  return Given(STDIN_NAME, Text(STDIN_NAME, [part]), STDIN_NAME, STDIN_PATH)


def _check_memory(given: Given, size: int, tokens: int, memory: int) -> None:
  """Refuses a text that does not fit: asking for more would get the process killed without a word.

  Args:
    given: the text.
    size: bytes of it that were read.
    tokens: of these.
    memory: bytes that can be used.

  Raises:
    UserError: what was read needs more.
  """
  needed = BYTES_PER_BYTE * size + BYTES_PER_TOKEN * tokens
  if needed > memory:
    raise UserError(f'{shown(given.name)}: expected a text of at most {memory * size // needed:,} bytes, for the '
                    f'{memory / 2**30:,.1f} GiB of memory that can be used here, found {given.text.num_bytes:,}; cut '
                    'it into files')


def _kept(blocks: Iterable[bytes], data: bytearray) -> Iterator[bytes]:
  """The same blocks, which are added to `data` as they pass."""
  for block in blocks:
    data += block
    yield block


def _token_ends(tokenizer: Tokenizer, text: bytes, ids: np.ndarray) -> np.ndarray:
  """Where in the text each token ends: [N] int64."""
  if tokenizer.unknown_id is None:
    return np.cumsum(np.array([len(piece) for piece in tokenizer.pieces], np.int64)[ids])
  # A token that stands for any unknown character has no length of its own; it is one character.
  starts = np.flatnonzero(np.frombuffer(text, np.int8) >= -64)
  return np.append(starts[1:], len(text))


def _warn_of_unknown(found: TokenText, tokenizer: Tokenizer) -> None:
  unknown = np.flatnonzero(found.ids == tokenizer.unknown_id) if tokenizer.unknown_id is not None else found.ids[:0]
  if unknown.size:
    first = int(unknown[0])
    character = found.data[found.ends[first - 1] if first else 0:found.ends[first]].decode()
    print(f'warning: {shown(found.name)}: {unknown.size:,} of {found.ids.size:,} characters '
          f'({unknown.size / found.ids.size:.2%}) are unknown to this model, first {character!r}', file=sys.stderr)
