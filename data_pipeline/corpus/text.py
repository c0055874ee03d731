"""A text: a range of the bytes of a corpus, read in blocks.

A corpus is a list of parts, read one after the other as if they were one file. A text is a range of these bytes:

  parts  |--- a.txt ---|------- b.txt -------|- c.txt -|
  texts  |---------- train ----------|---- valid ------|
"""
import array
import bisect
import contextlib
import itertools
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from flags.errors import UserError

BLOCK_BYTES = 4 << 20  # how much text is held in memory at a time
ONE = np.zeros(1, np.int64)  # the starts of a single document


class Part(NamedTuple):
  """The bytes of a corpus that come from one file, or from one split of a data set."""
  name: str
  size: int  # bytes
  read: Callable[[int], Iterator[bytes]]  # offset in the part -> the bytes from there on, in blocks of any size
  documents: np.ndarray = ONE  # offsets [n] int64 in the part where documents start
  mark: int = 0  # bytes of the file before the part begins: a byte order mark
  path: str = ''  # of the file, which the name shows in one line; empty where it is no file
  seeks: bool = True  # whether it is read from any offset as fast as from its start
  ends_line: bool = False  # whether its last byte is known to be a newline


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
    """The text from byte `start` to byte `stop` of this one, with the parts that it is from."""
    start, stop = self._start + start, self._start + stop
    first = max(bisect.bisect_right(self._part_starts, start) - 1, 0)
    last = max(bisect.bisect_left(self._part_starts, stop), first)
    begin = self._part_starts[first]
    return Text(self._spec, self._parts[first:last], start - begin, stop - begin)

  def read(self, start: int, stop: int) -> bytes:
    """The bytes from `start` to `stop`, as far as there are any."""
    return b''.join(self.slice(max(start, 0), min(stop, self.num_bytes)).blocks())

  def part_at(self, offset: int) -> tuple[Part, int, int]:
    """The part that has the byte at `offset`, and where that starts and ends, in bytes from the start of this text."""
    i = bisect.bisect_right(self._part_starts, self._start + offset, hi=len(self._parts)) - 1
    return self._parts[i], self._part_starts[i] - self._start, self._part_starts[i + 1] - self._start

  def locate(self, offset: int) -> tuple[str, int]:
    """Offset in this text -> the name of the file (or data set) that the byte is from, and its offset there."""
    part, start, _ = self.part_at(offset)
    return part.name, offset - start + part.mark

  def identity(self) -> list[Any]:
    """What says that this is the same text, as far as that shows without reading it, as JSON. Raises OSError."""
    return [self._start, self.num_bytes, [[part.name, part.size, changed(part.path)] for part in self._parts]]

  def character_start(self, offset: int) -> int:
    """The first offset, from `offset` on, where a UTF-8 character starts or the text ends."""
    near = self.read(offset, offset + 4)
    return offset + next((i for i, byte in enumerate(near[:3]) if byte & 0xC0 != 0x80), min(len(near), 3))

  def document_starts(self, separator: bytes = b'', *, goes_on: bool = False) -> np.ndarray:
    """Where documents start, without the first: offsets [n] int64, ascending.

    Args:
      separator: bytes that end a document wherever they occur; empty: only parts know where documents start.
      goes_on: whether other text follows this one, so that a document may start where this ends.
    """
    starts = np.empty(sum(part.documents.size for part in self._parts) + 1, np.int64)
    starts[-1], filled = self._part_starts[-1] - self._start, 0
    for part, begin in zip(self._parts, self._part_starts[:-1], strict=True):
      np.add(part.documents, begin - self._start, out=starts[filled:filled + part.documents.size])
      filled += part.documents.size
    ends = self._separator_ends(separator)
    offsets = np.unique(np.concatenate([starts, ends])) if ends.size else starts
    return offsets[(offsets > 0) & (offsets < self.num_bytes + goes_on)]

  def _separator_ends(self, separator: bytes) -> np.ndarray:
    """The offsets where a separator ends: [n] int64; none if it is empty."""
    ends = array.array('q')
    held, held_from = b'', 0  # bytes that may be the start of a separator, from offset held_from on
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


def changed(path: str) -> list[int]:
  """The size of a file, and when it was last written; nothing for no path. Raises OSError."""
  found = os.stat(path) if path else None
  return [found.st_size, found.st_mtime_ns] if found else []


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
