"""What can only be read from its start (packed files, data sets), copied so that it can be read from any offset.

The copy is a temporary file. It has no name, and the system frees its space when the last Part of it is gone.
"""
import array
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, NamedTuple, Protocol

import numpy as np

from data_pipeline.corpus.text import BLOCK_BYTES, ONE, Part, reading
from flags.errors import UserError


class Source(NamedTuple):
  """What can only be read from its start."""
  name: str
  read: Callable[[], Iterable[bytes]]  # -> its bytes in blocks
  path: str = ''  # of the file, if it is one


class Keep(Protocol):
  """Makes a Part of each source, such as `spooled`."""

  def __call__(self, spec: str, sources: Sequence[Source], *, documents: bool = False) -> list[Part]:
    ...


def spooled(spec: str, sources: Sequence[Source], *, documents: bool = False) -> list[Part]:
  """Copies each source to a temporary file.

  Args:
    spec: the --corpus, for error messages.
    sources: what is copied.
    documents: whether each block is a document; otherwise each source is one.

  Returns:
    A Part for each source.

  Raises:
    UserError: a source cannot be read, or there is no room for the copy.
  """
  if not sources:
    return []
  try:
    file = tempfile.TemporaryFile(prefix='charlm-')  # noqa: SIM115 (closes when the last Part goes)
  except OSError as error:
    raise UserError(f'TMPDIR={tempfile.gettempdir()}: expected a folder to unpack {spec} in ({error})') from error
  parts = []
  for name, read, path in sources:
    begin, starts = file.tell(), array.array('q')
    with reading(spec, name):
      for block in read():
        starts.append(file.tell() - begin)
        _write(file, block, spec)
    size = file.tell() - begin
    parts.append(Part(name, size, _reader(file, begin, size), np.array(starts) if documents else ONE,
                      path=path))
  return parts


def _reader(file: IO[bytes], begin: int, size: int) -> Callable[[int], Iterator[bytes]]:
  """The `read` of a Part: of `size` bytes from `begin` on."""
  def read(start: int) -> Iterator[bytes]:
    while start < size and (block := os.pread(file.fileno(), min(BLOCK_BYTES, size - start), begin + start)):
      start += len(block)
      yield block

  return read


def _write(file: IO[bytes], block: bytes, spec: str) -> None:
  try:
    file.write(block)
    file.flush()
  except OSError as error:
    raise UserError(f'TMPDIR={tempfile.gettempdir()}: expected room to unpack {spec} in ({error})') from error
