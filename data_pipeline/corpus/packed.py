"""The bytes of a file from any offset on, unpacked where it is packed."""
import bz2
import gzip
import lzma
from collections.abc import Callable, Generator, Iterator
from typing import Any

from data_pipeline.corpus.kinds import MARK, Packing
from data_pipeline.corpus.text import BLOCK_BYTES
from flags.errors import UserError

OPENERS: dict[str, Callable[..., Any]] = {'gzip': gzip.open, 'bzip2': bz2.open, 'xz': lzma.open}


def read_file(path: str, start: int = 0) -> Iterator[bytes]:
  """The bytes of a file as it is, from `start` on, in blocks. Raises OSError."""
  with open(path, 'rb') as file:
    file.seek(start)
    while block := file.read(BLOCK_BYTES):
      yield block


def unpack(path: str, packing: Packing) -> Generator[bytes, None, None]:
  """The bytes of a packed file, unpacked, in blocks.

  Raises:
    OSError, EOFError, zlib.error or lzma.LZMAError: it cannot be read, or is damaged.
    UserError: what unpacks it is not installed.
  """
  if packing.name == 'zstd':
    yield from _unpack_zstd(path)
    return
  with OPENERS[packing.name](path, 'rb') as file:
    while block := file.read(BLOCK_BYTES):
      yield block


def without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
  """The same bytes without a byte order mark at their start."""
  held = b''
  for block in blocks:
    held += block
    if len(held) >= len(MARK):
      break
  yield held.removeprefix(MARK)
  yield from blocks


def _unpack_zstd(path: str) -> Iterator[bytes]:
  try:
    import zstandard
  except ImportError as error:
    raise UserError(f'{path}: expected zstandard to be installed; pip install zstandard') from error
  frame, packed = None, b''
  with open(path, 'rb') as file:
    # zstandard's own readers do not complain if the file ends inside a frame. 1 KB at a time, because they may unpack
    # to 30,000 times as much.
    while packed := packed or file.read(1 << 10):
      frame = frame or zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
      try:
        block = frame.decompress(packed)
      except zstandard.ZstdError as error:
        raise EOFError(error) from error
      packed = frame.unused_data if frame.eof else b''
      frame = None if frame.eof else frame
      if block:
        yield block
  if frame:
    raise EOFError('it ends inside a frame')
