"""Files and folders that appear whole or not at all, and are still whole after a loss of power.

What is written goes to a temporary name beside its place, then to the disk (fsync), then to its name by rename, and the
folder that holds the name goes to the disk, too. A kill leaves a temporary name at most: `.NAME.*.tmp`.
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
  """The file to write, which replaces `path` at the end; where the body fails, `path` stays as it is.

  Raises OSError where it cannot be written.
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
  """Writes `data` to `path`. Raises OSError; then `path` is as it was."""
  with file(path) as opened:
    opened.write(data)


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """An empty folder to fill, which becomes `path` at the end; nothing is left of it where the body fails.

  Raises OSError where it cannot be made, or where there is a `path` already that is not an empty folder.
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
  opened = os.open(path, os.O_RDONLY)
  try:
    os.fsync(opened)
  finally:
    os.close(opened)
