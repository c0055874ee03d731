"""The lock that keeps a workdir to one run, and the folder that a run has locked, wherever it is moved."""
import contextlib
import errno
import fcntl
import os
import pathlib
import sys
import threading
from collections.abc import Iterator

from charlm.workdir.names import Folder
from data_pipeline import atomic
from flags.errors import RunError, UserError

# What file systems say that have no locks; EBADF: NFS, which locks only what is open for writing, and no folder is.
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}


class LockedFolder(os.PathLike):
  """A folder that a run has locked. As a path, it is where that folder is now.

  It stays the same folder where it is moved, and where another takes its place. So nothing of a run gets into a second
  folder.
  """

  def __init__(self, path: Folder, handle: int):
    """handle: the folder, opened."""
    self._path, self._handle, self._lock = os.fspath(path), handle, threading.Lock()

  def __str__(self) -> str:
    """Where it was when it was last used."""
    return self._path

  def __fspath__(self) -> str:
    """Where it is now; says so where that has changed. Raises RunError where it cannot be found any more."""
    with self._lock:  # a run trains in one thread and saves in another; a move is told once
      if not _is(self._path, self._handle):
        self._follow()
      return self._path

  def _follow(self) -> None:
    found = _place(self._handle)
    if found == os.path.realpath(self._path):  # a file system that numbers its files anew
      return
    if not found or not _is(found, self._handle):
      raise RunError(f'--workdir={self._path}: this folder was removed or replaced while the run was at work in it; '
                     'nothing was written elsewhere. Bring it back, then run the same command again')
    print(f'notice: --workdir={self._path}: was moved to {found}, and the run goes on there', file=sys.stderr)
    self._path = found


def _is(path: str, handle: int) -> bool:
  """Whether the path is that of the opened folder."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(handle))
  except OSError:
    return False


def _place(handle: int) -> str:
  """Where an opened folder is now, '' where the system does not say."""
  try:
    if hasattr(fcntl, 'F_GETPATH'):  # macOS
      return os.fsdecode(fcntl.fcntl(handle, fcntl.F_GETPATH, bytes(1024)).rstrip(b'\0'))
    return os.readlink(f'/proc/self/fd/{handle}')
  except OSError:
    return ''


@contextlib.contextmanager
def locked(workdir: Folder) -> Iterator[LockedFolder]:
  """Makes the folder, keeps other runs out of it, and removes unfinished files that a killed one has left.

  The lock ends with the process, however that ends. Where the body of the context raises, folders that were made for it
  and are still empty are removed.

  Raises:
    UserError: another run holds the lock, or the folder cannot be made.
  """
  handle, made, alone = _open(workdir)
  try:
    for folder in '.', 'checkpoints', 'samples':
      atomic.sweep(pathlib.Path(workdir, folder), at_once=alone)
    yield LockedFolder(workdir, handle)
  except BaseException:
    with contextlib.suppress(OSError):
      for path in made if _is(os.fspath(workdir), handle) else ():
        path.rmdir()
    raise
  finally:
    os.close(handle)


def _open(workdir: Folder) -> tuple[int, list[pathlib.Path], bool]:
  """-> the folder, opened and locked; the folders made for it, itself first; whether no other run can be there."""
  try:
    path = pathlib.Path(workdir)
    while True:
      made = [folder for folder in [path, *path.parents] if not folder.exists()]
      atomic.make_folder(path)
      handle = os.open(path, os.O_RDONLY)
      alone = _lock(handle, workdir)
      if _is(os.fspath(path), handle):
        return handle, made, alone
      os.close(handle)  # a run that was refused has removed it meanwhile
  except UserError:
    raise
  except (OSError, ValueError) as error:
    raise UserError(f'--workdir={workdir}: cannot be used ({getattr(error, "strerror", None) or error}); expected a '
                    'folder to write to') from error


def _lock(handle: int, workdir: Folder) -> bool:
  """-> whether the file system has locks. Raises UserError where another run has this one, OSError."""
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
  except OSError as error:
    if error.errno in NO_LOCKS:
      print(f'notice: --workdir={workdir}: its file system has no locks ({error.strerror}); let no other charlm-train '
            'use it meanwhile', file=sys.stderr)
      return False
    os.close(handle)
    if isinstance(error, BlockingIOError):
      raise UserError(f'--workdir={workdir}: another charlm-train is at work there; expected one of its own') from None
    raise
