"""Shards: the tokens of a part of a split, in records.

A shard is records of RECORD_TOKENS tokens, of which the last may be shorter:

  | ids, in the smallest unsigned type | a bit for each token (only where documents matter) | CRC-32 |

All other records have the same size. So the record of a token is found by a division, is read at once, from a disk or
over a network, and proves itself. The bits are set for tokens that are read from the initial state, as the .starts of
`token_files.py` say.
"""
import dataclasses
import hashlib
import zlib
from typing import IO

import numpy as np

RECORD_TOKENS = 1 << 16
CHECK = np.dtype('<u4')  # of the CRC-32


@dataclasses.dataclass(frozen=True)
class Shard:
  """A file of records."""
  name: str
  num_tokens: int
  digest: str  # SHA-256 of the file


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the tokens of a record lie."""
  dtype: str  # NumPy's name of an unsigned type
  documents: bool  # whether there are bits of starts

  def size(self, num_tokens: int) -> int:
    """Bytes of a record of so many tokens."""
    bits = -(-num_tokens // 8) if self.documents else 0
    return num_tokens * np.dtype(self.dtype).itemsize + bits + CHECK.itemsize

  def shard_size(self, num_tokens: int) -> int:
    """Bytes of a shard of so many tokens."""
    whole, rest = divmod(num_tokens, RECORD_TOKENS)
    return whole * self.size(RECORD_TOKENS) + (self.size(rest) if rest else 0)

  def pack(self, ids: np.ndarray, starts: np.ndarray) -> bytes:
    """A record of ids [n] and starts [n] bool."""
    bits = np.packbits(starts).tobytes() if self.documents else b''
    data = ids.astype(np.dtype(self.dtype).newbyteorder('<'), copy=False).tobytes() + bits
    return data + np.array(zlib.crc32(data), CHECK).tobytes()

  def unpack(self, record: bytes, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [n] and starts [n] bool of a record; starts is empty without documents. Raises ValueError if damaged."""
    if len(record) != self.size(num_tokens):
      raise ValueError(f'{len(record)} bytes in place of {self.size(num_tokens)}')
    body, check = record[:-CHECK.itemsize], np.frombuffer(record[-CHECK.itemsize:], CHECK)[0]
    if zlib.crc32(body) != check:
      raise ValueError('other bytes than were written')
    ids = np.frombuffer(body, np.dtype(self.dtype).newbyteorder('<'), num_tokens)
    bits = np.frombuffer(body, np.uint8, offset=ids.nbytes)
    return ids, np.unpackbits(bits, count=num_tokens if self.documents else 0).view(bool)


class ShardWriter:
  """Writes a shard.

  Attributes:
    num_tokens: written so far.
    num_starts: tokens that are read from the initial state, so far.
    digest: SHA-256 of what was written, in hexadecimal, once it is closed.
  """

  def __init__(self, file: IO[bytes], layout: Layout, first: bool):
    """first: whether the shard is the first of its split."""
    self._file, self._layout, self._first = file, layout, first
    self._ids = np.zeros(RECORD_TOKENS, layout.dtype)
    self._starts = np.zeros(RECORD_TOKENS, bool)
    self._filled, self._sum = 0, hashlib.sha256()
    self.num_tokens, self.num_starts, self.digest = 0, 0, ''

  def write(self, ids: np.ndarray) -> None:
    """Adds ids [n]."""
    while ids.size:
      if self._filled == RECORD_TOKENS:
        self._flush()
      taken = min(ids.size, RECORD_TOKENS - self._filled)
      self._ids[self._filled:self._filled + taken] = ids[:taken]
      if self._first:
        self._first, self._starts[0], self.num_starts = False, True, 1
      self._filled, self.num_tokens, ids = self._filled + taken, self.num_tokens + taken, ids[taken:]

  def end_document(self) -> None:
    """Says that the last token ends a document, and another document follows."""
    self.num_starts += not self._starts[self._filled - 1]
    self._starts[self._filled - 1] = True

  def close(self) -> None:
    """Writes what is left. The file stays open."""
    if self._filled:
      self._flush()
    self.digest = self._sum.hexdigest()

  def _flush(self) -> None:
    data = self._layout.pack(self._ids[:self._filled], self._starts[:self._filled])
    self._sum.update(data)
    self._file.write(data)
    self._filled = 0
    self._starts[:] = False
