"""Files and folders that appear whole or not at all, and are still whole after a loss of power.

The data are written to a temporary name in the same folder, `.NAME.*.tmp`, and synced to the disk (fsync). A rename
then gives them their name, and the folder that holds the name is synced, too. If the process is killed, a temporary
name may be left, but never half a file. What is left so is removed (`sweep`) once nothing has been written to it for a
day.
"""
import contextlib
import errno
import math
import os
import pathlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import IO

TEMPORARY = re.compile(r'\..+\.[a-z0-9_]{8}\.tmp', re.DOTALL)
DAY = 24 * 60 * 60
# What file systems say that cannot sync a file or a folder: NFS, FUSE and others. Then there is nothing to wait for.
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


@contextlib.contextmanager
def file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
  """A context that yields a binary file to write, which becomes `path` at the end.

  If the body of the context raises, `path` stays as it was.

  Raises:
    OSError: the file cannot be written.
  """
  path = pathlib.Path(path)
  parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)  # the same folder all along, even if it is moved
  try:
    sweep(path.parent)
    temporary = f'.{path.name}.{secrets.token_hex(4)}.tmp'
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
    try:
      with open(handle, 'wb') as opened:
        yield opened
        opened.flush()
        _sync(handle)
        with contextlib.suppress(OSError):  # some file systems have no modes
          os.chmod(handle, 0o644)
      os.replace(temporary, path.name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(temporary, dir_fd=parent)
      raise
    _sync(parent)
  finally:
    os.close(parent)


def write(path: str | os.PathLike, data: bytes) -> None:
  """Writes `data` to `path`. Raises OSError if that fails; `path` is then as it was."""
  with file(path) as opened:
    opened.write(data)


def make_folder(path: str | os.PathLike, *, parents: bool = True) -> None:
  """Makes a folder where it is not there, and has its name reach the disk.

  Args:
    path: of the folder.
    parents: whether to make those above it, too.

  Raises:
    OSError: one cannot be made, or there are more than pathlib can make.
  """
  path = pathlib.Path(path)
  made = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
  try:
    path.mkdir(parents=parents, exist_ok=True)
  except RecursionError:
    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fspath(path)) from None
  for folder in reversed(made):
    with contextlib.suppress(FileNotFoundError, PermissionError):  # removed meanwhile; writable, but not readable
      sync(folder.parent)


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A context that yields an empty folder to fill, which becomes `path` at the end.

  If the body of the context raises, nothing is left of it.

  Raises:
    OSError: the folder cannot be made, or `path` exists and is not an empty folder.
  """
  path = pathlib.Path(path)
  sweep(path.parent)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent))
  try:
    yield temporary
    for below in temporary.rglob('*'):
      sync(below)
    with contextlib.suppress(OSError):
      temporary.chmod(0o755)
    rename_folder(temporary, path)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def rename_folder(folder: str | os.PathLike, path: str | os.PathLike) -> None:
  """Gives a folder, whose files are on the disk, another name beside its own: `path`.

  Raises:
    OSError: `path` exists and is not an empty folder, or it cannot be done.
  """
  folder, path = pathlib.Path(folder), pathlib.Path(path)
  sync(folder)
  os.rename(folder, path)
  sync(path.parent)


def sweep(folder: str | os.PathLike[str], *, at_once: bool = False) -> None:
  """Removes temporary files and folders that killed processes have left in `folder`.

  Args:
    folder: it need not exist.
    at_once: whether no live process writes there; otherwise only what was not touched for a day is removed.
  """
  with contextlib.suppress(OSError), os.scandir(os.fspath(folder)) as entries:
    for entry in entries:
      if TEMPORARY.fullmatch(entry.name) and (at_once or time.time() - _touched(entry) > DAY):
        if entry.is_dir(follow_symlinks=False):
          shutil.rmtree(entry.path, ignore_errors=True)
        else:
          with contextlib.suppress(OSError):
            os.unlink(entry.path)


def _touched(entry: os.DirEntry[str]) -> float:
  """When a file, or anything in a folder, was last written; math.inf where that cannot be found out."""
  paths = [entry.path]
  for folder, folders, files in os.walk(entry.path):
    paths += [os.path.join(folder, name) for name in (*folders, *files)]
  try:
    return max(os.lstat(path).st_mtime for path in paths)
  except OSError:  # it is at work there
    return math.inf


def _sync(handle: int) -> None:
  """Returns once an opened file or folder is on the disk, where the file system can say so."""
  try:
    os.fsync(handle)
  except OSError as error:
    if error.errno not in NO_SYNC:
      raise


def sync(path: str | os.PathLike) -> None:
  """Returns once a file or folder is on the disk, where the file system can say so. Raises OSError."""
  opened = os.open(path, os.O_RDONLY)
  try:
    _sync(opened)
  finally:
    os.close(opened)
