"""A text: a range of the bytes of a corpus, read in blocks.

A corpus is a list of parts, read one after the other as if they were one file. A text is a range of these bytes:

  parts  |--- a.txt ---|------- b.txt -------|- c.txt -|
  texts  |---------- train ----------|---- valid ------|
"""
import bisect
import contextlib
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from flags.errors import UserError

BLOCK_BYTES = 4 << 20  # how much text is held in memory at a time


class Part(NamedTuple):
  """The bytes of a corpus that come from one file, or from one split of a data set."""
  name: str
  size: int  # bytes
  read: Callable[[int], Iterator[bytes]]  # offset in the part -> the bytes from there on, in blocks of any size
  documents: tuple[int, ...] = (0,)  # offsets in the part where documents start
  mark: int = 0  # bytes of the file before the part begins: a byte order mark
  path: str = ''  # of the file, which the name shows in one line; empty where it is no file


class Text:
  """A range of a corpus. It is read from its source each time that `blocks` is called.

  Attributes:
    num_bytes: the length of the text.
  """

  def __init__(self, spec: str, parts: Sequence[Part], start: int = 0, stop: int | None = None) -> None:
    """The text of a range of `parts`.

    Args:
      spec: the --corpus that the parts are from, for error messages.
      parts: all parts of the corpus.
      start: the first byte, counted from the start of the first part.
      stop: the byte after the last one; None: the end of the last part.
    """
    self._spec, self._parts = spec, parts
    self._part_starts = [0, *itertools.accumulate(part.size for part in parts)]
    self._start, self._stop = start, self._part_starts[-1] if stop is None else stop
    self.num_bytes = self._stop - self._start
    self._checksum: int | None = None  # of the whole text, once it has been read

  def blocks(self) -> Iterator[bytes]:
    """The bytes in blocks of BLOCK_BYTES, the last one shorter.

    Raises:
      UserError: a file cannot be read, or the text is not what it was when it was first read.
    """
    held, size, checksum = [], 0, 0
    for data in self._read():
      checksum = zlib.crc32(data, checksum)
      held.append(data)
      size += len(data)
      if size >= BLOCK_BYTES:
        joined = b''.join(held)
        yield joined[:BLOCK_BYTES]
        held, size = [joined[BLOCK_BYTES:]], size - BLOCK_BYTES
    if self._checksum not in (None, checksum):
      raise UserError(f'--corpus={self._spec}: the text has changed while it was read; start again once it is whole')
    self._checksum = checksum
    if size:
      yield b''.join(held)

  def slice(self, start: int, stop: int) -> 'Text':
    """The text from byte `start` to byte `stop` of this one."""
    return Text(self._spec, self._parts, self._start + start, self._start + stop)

  def locate(self, offset: int) -> tuple[str, int]:
    """Offset in this text -> the name of the file (or data set) that the byte is from, and its offset there."""
    place = self._start + offset
    i = bisect.bisect_right(self._part_starts, place, hi=len(self._parts)) - 1
    return self._parts[i].name, place - self._part_starts[i] + self._parts[i].mark

  def character_start(self, offset: int) -> int:
    """The first offset, from `offset` on, where a UTF-8 character starts or the text ends."""
    near = b''.join(self.slice(offset, min(offset + 4, self.num_bytes)).blocks())
    return offset + next((i for i, byte in enumerate(near[:3]) if byte & 0xC0 != 0x80), min(len(near), 3))

  def document_starts(self, separator: bytes = b'') -> np.ndarray:
    """Where documents start, without the first: offsets [n] int64, ascending.

    Args:
      separator: bytes that end a document wherever they occur; empty: only parts know where documents start.
    """
    starts = [begin - self._start + np.array(part.documents, np.int64)
              for part, begin in zip(self._parts, self._part_starts[:-1], strict=True)]
    offsets = np.unique(np.concatenate([*starts, self._separator_ends(separator)]))
    return offsets[(offsets > 0) & (offsets < self.num_bytes)]

  def _separator_ends(self, separator: bytes) -> np.ndarray:
    """The offsets where a separator ends: [n] int64; none if it is empty."""
    ends, held, held_from = [], b'', 0  # held: bytes that may be the start of a separator, from offset held_from on
    for block in self.blocks() if separator else ():
      held, used = held + block, 0
      while (found := held.find(separator, used)) >= 0:
        used = found + len(separator)
        ends.append(held_from + used)
      used = max(used, len(held) - len(separator) + 1)
      held, held_from = held[used:], held_from + used
    return np.array(ends, np.int64)

  def _read(self) -> Iterator[bytes]:
    """The bytes in blocks of any size."""
    for part, begin in zip(self._parts, self._part_starts[:-1], strict=True):
      first, last = max(self._start - begin, 0), min(self._stop - begin, part.size)
      if first >= last:
        continue
      with reading(self._spec, part.name):
        for data in part.read(first):
          data = data[:last - first]
          first += len(data)
          yield data
          if first == last:
            break
      if first != last:
        raise UserError(f'--corpus={self._spec}: {part.name} became shorter while it was read')


@contextlib.contextmanager
def reading(spec: str, name: str) -> Iterator[None]:
  """Turns an error while `name` is read into a UserError that names it and the spec."""
  try:
    yield
  except (EOFError, zlib.error, lzma.LZMAError) as error:
    raise UserError(f'--corpus={spec}: {name} is damaged or cut short ({error})') from error
  except OSError as error:
    problem = f'cannot be read ({error.strerror})' if error.errno else f'is damaged ({error})'
    raise UserError(f'--corpus={spec}: {name} {problem}') from error
