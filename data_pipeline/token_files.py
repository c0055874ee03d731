r"""Token files: the ids of each split on the disk, and the counts of its text.

  train.tokens   ids [N], and nothing else, in the smallest unsigned little-endian type that holds them
  train.starts   indices [n] of the tokens that are read from the initial state, int64; only where documents matter
  tokens.json    {split: the fields of its TokenFile without the path}, and a digest of all of it

Because the files hold only numbers, NumPy and TensorFlow map them into memory. They stay open as long as their
TokenFile is used, so that the cache may be cleared meanwhile.

Where documents matter (--document_reset), no token crosses the end of a document. The first token of the split is read
from the initial state, and so is the last token of each document but the last one:

  text     a b c \n d e \n f g \n
  starts   ^     ^      ^

A document ends in a newline or in the separator. So the first token of the next one is predicted from the initial
state and such an end, as it is when a text is generated from nothing. The end itself is still predicted from its own
document. Every target counts once.
"""
import array
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Protocol

import numpy as np

from data_pipeline.corpus.text import BLOCK_BYTES, Text
from data_pipeline.text_reader import TextReader, count_characters
from data_pipeline.tokenizers.base import Tokenizer, decode_blocks, token_dtype


class OpenFile:
  """A file that is kept open, so that it can be opened again once its name is gone. Raises OSError."""

  def __init__(self, path: str):
    self._handle, self._name = os.open(path, os.O_RDONLY), os.path.abspath(path)
    self.size = os.fstat(self._handle).st_size
    again = f'/proc/self/fd/{self._handle}'
    self.path = again if os.path.exists(again) else path  # a name to open it by; the system may have none but its own

  def share(self) -> None:
    """Lets other hosts open it, too: `path` is its own name from now on."""
    self.path = self._name

  def __del__(self) -> None:
    if hasattr(self, '_handle'):
      os.close(self._handle)


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """The token ids of a split, and the counts of its text.

  Bits per byte leave out the first token, because nothing predicts it: hence its share of the counts.
  """
  path: str
  dtype: str  # NumPy's name
  num_tokens: int
  num_bytes: int
  num_characters: int
  first_token_bytes: int
  first_token_characters: int
  num_unknown: int  # tokens that stand for characters that the tokenizer does not know
  first_unknown: str = ''  # the first of those characters; '' if there is none
  content: str = ''  # a digest of the text of all splits; the same for every tokenizer and format
  num_starts: int = 0  # indices in the file of starts; 0 if there is no such file

  @property
  def starts_path(self) -> str:
    return str(pathlib.Path(self.path).with_suffix('.starts'))

  @functools.cached_property
  def tokens(self) -> OpenFile:
    """The file of the ids."""
    return OpenFile(self.path)

  @functools.cached_property
  def starts(self) -> OpenFile | None:
    """The file of the starts; None where documents do not matter."""
    return OpenFile(self.starts_path) if self.num_starts else None

  def share(self) -> None:
    """Lets other hosts read the split, where they have its files by the same names."""
    for file in self.tokens, self.starts:
      if file:
        file.share()

  def is_whole(self) -> bool:
    """Opens the files, to keep them -> whether they are as long as they should be. Raises OSError."""
    whole = self.tokens.size == self.num_tokens * np.dtype(self.dtype).itemsize
    return whole and (not self.starts or self.starts.size == self.num_starts * 8)

  def read(self) -> np.ndarray:
    """The ids [N], mapped into memory and read-only."""
    return np.memmap(self.tokens.path, np.dtype(self.dtype).newbyteorder('<'), 'r', shape=(self.num_tokens,))


def read_token_files(folder: pathlib.Path, splits: Iterable[str]) -> dict[str, TokenFile] | None:
  """The token files in a folder: {split: TokenFile}, or None if one of them is missing or damaged."""
  try:
    facts = json.loads((folder / 'tokens.json').read_text())
    digest = facts.pop('digest')
    files = {split: TokenFile(path=str(folder / f'{split}.tokens'), **facts[split]) for split in splits}
    if not {file.dtype for file in files.values()} <= {'uint8', 'uint16', 'uint32'}:
      return None
    whole = all(file.is_whole() for file in files.values()) and digest == _digest(folder, facts)
  except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
    return None
  return files if whole else None


def _digest(folder: pathlib.Path, facts: Mapping[str, Any]) -> str:
  """SHA-256 of the facts of tokens.json and of the files that they tell of, in hexadecimal. Raises OSError."""
  digest = hashlib.sha256(json.dumps(facts).encode())
  for path in (folder / f'{split}{suffix}' for split in facts for suffix in ('.tokens', '.starts')):
    if path.suffix == '.tokens' or path.exists():
      with open(path, 'rb') as file:
        while block := file.read(BLOCK_BYTES):
          digest.update(block)
  return digest.hexdigest()


def write_token_files(folder: pathlib.Path, readers: Mapping[str, TextReader],
                      starts: Mapping[str, np.ndarray] | None, tokenizer: Tokenizer, *, content: str,
                      on_invalid: str) -> None:
  """Tokenizes the splits of a corpus into a folder.

  Args:
    folder: an empty one.
    readers: {split: a reader of its text}.
    starts: {split: byte offsets [n] where its documents start, without the first}; None if documents do not matter.
    tokenizer: what makes the ids.
    content: the digest of the text, for TokenFile.content.
    on_invalid: 'error', or 'replace' to read bytes that are not UTF-8 as U+FFFD.

  Raises:
    UserError: a text cannot be read, or is not UTF-8.
    OSError: the files cannot be written.
  """
  facts = {}
  for split, reader in readers.items():
    path, own_starts = folder / f'{split}.tokens', starts[split] if starts else None
    facts[split] = {**_write_split(path, reader, own_starts, tokenizer, on_invalid), 'content': content}
  (folder / 'tokens.json').write_text(json.dumps({**facts, 'digest': _digest(folder, facts)}, indent=2) + '\n')


def _write_split(path: pathlib.Path, reader: TextReader, starts: np.ndarray | None, tokenizer: Tokenizer,
                 on_invalid: str) -> dict[str, Any]:
  """Writes the .tokens and .starts of a split. Returns the fields of its TokenFile without `path` and `content`."""
  with open(path, 'wb') as file:
    writer = _Writer(file, token_dtype(tokenizer.vocab_size))
    facts = write_tokens(writer, reader, starts, tokenizer, on_invalid)
  if starts is not None:
    np.frombuffer(writer.starts, np.int64).astype('<i8', copy=False).tofile(path.with_suffix('.starts'))
  return {**facts, 'num_starts': 0 if starts is None else len(writer.starts)}


class Writer(Protocol):
  """Where the tokens of a text are written."""

  def write(self, ids: np.ndarray) -> None:
    """Adds ids [n]."""

  def end_document(self) -> None:
    """Says that the last token ends a document, and another document follows."""


class _Writer:
  """Writes ids to a file, and keeps where they are read from the initial state."""

  def __init__(self, file: IO[bytes], dtype: np.dtype):
    self._file, self._dtype, self._num_tokens = file, dtype, 0
    self.starts = array.array('q', [0])

  def write(self, ids: np.ndarray) -> None:
    self._file.write(ids.astype(self._dtype, copy=False).data)
    self._num_tokens += ids.size

  def end_document(self) -> None:
    if self.starts[-1] != self._num_tokens - 1:
      self.starts.append(self._num_tokens - 1)


def write_tokens(writer: Writer, reader: TextReader, starts: np.ndarray | None, tokenizer: Tokenizer,
                 on_invalid: str) -> dict[str, Any]:
  """Tokenizes a text. Args and errors as of `write_token_files`.

  Returns:
    The fields of a TokenFile that the text decides: all but the place, `content` and `num_starts`.
  """
  num_tokens = num_unknown = first_unknown = 0
  first_token = b''
  with reader:
    blocks = reader if starts is None else mark_document_ends(reader, starts)
    for ids in tokenizer.encode_blocks(blocks, on_invalid):
      if not ids.size:
        writer.end_document()
        continue
      if not num_tokens:
        first_token = _first_token(tokenizer.pieces[ids[0]], reader.head)
      writer.write(ids)
      if tokenizer.unknown_id is not None:
        unknown = np.flatnonzero(ids == tokenizer.unknown_id)
        if unknown.size and not num_unknown:
          first_unknown = num_tokens + int(unknown[0])
        num_unknown += unknown.size
      num_tokens += ids.size
  return dict(dtype=token_dtype(tokenizer.vocab_size).name, num_tokens=num_tokens, num_bytes=reader.num_bytes,
              num_characters=reader.num_characters, first_token_bytes=len(first_token),
              first_token_characters=count_characters(first_token), num_unknown=num_unknown,
              first_unknown=_character(reader.text, first_unknown, on_invalid) if num_unknown else '')


def mark_document_ends(blocks: Iterable[bytes], starts: np.ndarray) -> Iterator[bytes]:
  """The same bytes, with an empty block before each document but the first, as Tokenizer.encode_blocks wants them.

  Args:
    blocks: the text.
    starts: byte offsets [n] where documents start, ascending; also where the text ends, if a document follows it.
  """
  block_start = done = 0
  for block in blocks:
    used, until = 0, int(np.searchsorted(starts, block_start + len(block)))
    for start in starts[done:until].tolist():
      if start > block_start + used:
        yield block[used:start - block_start]
      yield b''
      used = start - block_start
    if used < len(block):
      yield block[used:]
    block_start, done = block_start + len(block), until
  if done < len(starts):
    yield b''


def _character(text: Text, index: int, on_invalid: str) -> str:
  """The character at `index` of a text."""
  for part in decode_blocks(text.blocks(), on_invalid):
    if index < len(part):
      return part[index]
    index -= len(part)
  raise AssertionError(index)


def _first_token(piece: bytes, head: bytes) -> bytes:
  """The bytes of the text that its first token stands for.

  Args:
    piece: the token's bytes when it is decoded.
    head: the start of the text. It differs from `piece` if the token stands for what the tokenizer does not know.
  """
  if head.startswith(piece):
    return piece
  character = next(decode_blocks([head], 'replace'))[0].encode()
  return character if head.startswith(character) else head[:1]
