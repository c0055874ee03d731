"""Files and folders that appear whole or not at all, and are still whole after a loss of power.

The data are written to a temporary name in the same folder, `.NAME.*.tmp`, and synced to the disk (fsync). A rename
then gives them their name, and the folder that holds the name is synced, too. If the process is killed, a temporary
name may be left, but never half a file.
"""
import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
  """A context that yields a binary file to write, which becomes `path` at the end.

  If the body of the context raises, `path` stays as it was.

  Raises:
    OSError: the file cannot be written.
  """
  path = pathlib.Path(path)
  handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent)
  try:
    with open(handle, 'wb') as opened:
      yield opened
      opened.flush()
      os.fsync(opened.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    raise
  _sync(path.parent)


def write(path: str | os.PathLike, data: bytes) -> None:
  """Writes `data` to `path`. Raises OSError if that fails; `path` is then as it was."""
  with file(path) as opened:
    opened.write(data)


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A context that yields an empty folder to fill, which becomes `path` at the end.

  If the body of the context raises, nothing is left of it.

  Raises:
    OSError: the folder cannot be made, or `path` exists and is not an empty folder.
  """
  path = pathlib.Path(path)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent))
  try:
    yield temporary
    for below in temporary.rglob('*'):
      _sync(below)
    temporary.chmod(0o755)
    _sync(temporary)
    os.rename(temporary, path)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
  _sync(path.parent)


def _sync(path: pathlib.Path) -> None:
  """Returns once a file or folder is on the disk."""
  opened = os.open(path, os.O_RDONLY)
  try:
    os.fsync(opened)
  finally:
    os.close(opened)
