"""Reads NumPy archives, and tells damage from a file that cannot be read for a moment.

Only what is inside a file can be damaged. zipfile turns some errors of the disk into a BadZipFile, and damaged sizes
ask for more memory than there is. So errors of the disk are noted where they come up, and every size is compared with
that of the file before any memory is asked for.
"""
import io
import math
import os
import tokenize
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from charlm.workdir.names import Folder, unreadable
from flags.errors import RunError

# What zipfile and NumPy's reader of headers raise for damaged bytes; OSError where they seek to no place in the file.
DAMAGE = (ValueError, KeyError, IndexError, EOFError, RuntimeError, TypeError, SyntaxError, OverflowError, OSError,
          tokenize.TokenError, zipfile.BadZipFile, zlib.error)


class Damaged(RunError):
  """The contents of a file are not those that were written."""


class _Source(io.RawIOBase):
  """A file that notes the error with which it could not be read."""

  def __init__(self, file: IO[bytes]):
    self._file: Any = file
    self.error: OSError | None = None

  def readinto(self, buffer: Any) -> int | None:
    try:
      return self._file.readinto(buffer)
    except OSError as error:
      self.error = error
      raise

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    return self._file.seek(offset, whence)

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True


def read(path: Folder) -> dict[str, np.ndarray]:
  """Reads an archive that np.savez has written -> its arrays by key. Pickles are not loaded.

  Raises:
    Damaged: it is no such archive.
    RunError: the file cannot be read.
  """
  try:
    with open(path, 'rb', buffering=0) as file:
      source = _Source(file)
      try:
        return _arrays(io.BufferedReader(source), os.fstat(file.fileno()).st_size)
      except DAMAGE as error:
        if source.error:
          raise source.error from None
        raise Damaged(f'{path}: the checkpoint is damaged ({error})') from error
  except (OSError, MemoryError) as error:
    raise unreadable(path, error) from error


def _arrays(file: Any, size: int) -> dict[str, np.ndarray]:
  found = {}
  with zipfile.ZipFile(file) as archive:
    for entry in archive.infolist():
      stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
      if not stored or not 0 <= entry.header_offset <= size - entry.file_size:
        raise ValueError(f'{entry.filename} is not as it was stored')
      _check_size(archive, entry)
      with archive.open(entry) as member:
        found[entry.filename.removesuffix('.npy')] = np.lib.format.read_array(member, allow_pickle=False)
  return found


def _check_size(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
  """Raises ValueError where an array's header asks for another size than the archive has for it."""
  with archive.open(entry) as member:
    version = np.lib.format.read_magic(member)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    try:
      shape, _, dtype = read_header(member)
    except MemoryError:  # so Python's parser calls brackets that are too deep
      raise ValueError('an array has a header that cannot be read') from None
    if math.prod(shape) * dtype.itemsize != entry.file_size - member.tell():
      raise ValueError(f'{entry.filename} has another size than it says')
