"""Disks that are full, and disks that lose power: what a process does to a folder, watched or made to fail."""
import builtins
import contextlib
import io
import os
import pathlib
import threading

SYSTEM = ('mkdir', 'open', 'fsync', 'replace', 'unlink')  # calls that change a folder, or have it reach the disk


class Failing:
  """Has one of the operations fail by which files and folders are made, written, synced, renamed and removed."""

  def __init__(self, monkeypatch, number, error):
    """number: of the operation that fails, from 0. error: the OSError that it raises."""
    self._left, self._error, self.failed = number, error, ''
    for name in SYSTEM:
      monkeypatch.setattr(os, name, self._failing(name, getattr(os, name)))
    opens = builtins.open
    monkeypatch.setattr(builtins, 'open', lambda file, mode='r', *args, **options: (
        io.BufferedWriter(Written(self, file)) if isinstance(file, int) and mode == 'wb'
        else opens(file, mode, *args, **options)))

  def count(self, name):
    """Raises the error where this operation is the one."""
    self._left -= 1
    if self._left == -1:
      self.failed = name
      raise self._error

  def _failing(self, name, function):
    def fails(*args, **options):
      if not (name == 'open' and not args[1] & os.O_CREAT) and not (name == 'mkdir' and os.path.isdir(args[0])):
        self.count(name)
      return function(*args, **options)

    return fails


class Written(io.FileIO):
  """A file of which each write counts."""

  def __init__(self, failing, handle):
    super().__init__(handle, 'wb')
    self._failing = failing

  def write(self, data):
    self._failing.count('write')
    return super().write(data)


class PowerCut:
  """What would be left of a folder if power was lost at any moment.

  A file has what it had when it was last synced, or nothing. Of the names in a folder, a disk that is lazy has those of
  when the folder was last synced, and one that is eager has all.

  Attributes:
    left: (mark, {path: bytes}) for each moment, lazy and eager; mark is that of the time.
    mark: whatever was last reached.
  """

  def __init__(self, monkeypatch, folder):
    """Watches `folder`, in which nothing is yet, from now on."""
    self.folder, self.left, self.mark = pathlib.Path(folder), [], None
    self._content, self._names, self._lock = {}, {}, threading.RLock()
    for name in 'fsync', 'replace', 'rename':
      monkeypatch.setattr(os, name, self._watched(getattr(os, name), name == 'fsync'))

  def _watched(self, function, syncs):
    def watched(*args, **options):
      with self._lock:
        self._note()
        result = function(*args, **options)
        if syncs:
          self._synced(*args)
        self._note()
        return result

    return watched

  def _synced(self, handle):
    number = os.fstat(handle).st_ino
    with contextlib.suppress(OSError):  # it has no name any more
      path = os.readlink(f'/proc/self/fd/{handle}')
      if os.path.isdir(path):
        self._names[number] = entries(path)
      else:
        self._content[number] = pathlib.Path(path).read_bytes()

  def reached(self, mark):
    """What is to be found from now on."""
    with self._lock:
      self.mark = mark
      self._note()

  def _note(self):
    for eager in False, True:
      self.left.append((self.mark, dict(self._tree(self.folder, eager))))

  def _tree(self, folder, eager, inside=''):
    """(path, bytes) of all files. `folder` is where a folder is now, in which the names may be others."""
    with contextlib.suppress(FileNotFoundError):
      now = entries(folder)
      for name, number in (now if eager else self._names.get(os.stat(folder).st_ino, {})).items():
        path, below = os.path.join(inside, name), os.path.join(folder, name)
        if os.path.isdir(below) and now.get(name) == number:
          yield from self._tree(below, eager, path)
        else:
          yield path, self._content.get(number, b'')


def entries(folder):
  """{name: number} of what is in a folder."""
  with os.scandir(folder) as found:
    return {entry.name: entry.inode() for entry in found}


def restore(files, folder):
  """Makes a folder of {path: bytes}."""
  for path, data in files.items():
    target = pathlib.Path(folder, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
