"""The files that a run names after its steps, such as step-00001500.npz, and whether a file is there.

Only names that charlm writes are charlm's. A copy, a link, a folder or a note beside them belongs to somebody else: it
is neither read nor removed.
"""
import os
import pathlib
import re
from typing import TypeAlias

from flags.errors import RunError

Folder: TypeAlias = str | os.PathLike[str]


def step_name(step: int, suffix: str) -> str:
  """The name of the file of a step. suffix: such as '.npz'."""
  return f'step-{step:08d}{suffix}'


def step_files(folder: Folder, suffix: str) -> dict[int, pathlib.Path]:
  """{step: path} of the files in a folder that are named after their step, newest first; {} where there is no folder.

  Raises:
    RunError: the folder cannot be read.
  """
  pattern, found = re.compile(rf'step-(\d{{8,20}}){re.escape(suffix)}', re.ASCII), {}
  try:
    with os.scandir(folder) as entries:
      for entry in entries:
        match = pattern.fullmatch(entry.name)
        if match and step_name(int(match[1]), suffix) == entry.name and entry.is_file(follow_symlinks=False):
          found[int(match[1])] = pathlib.Path(entry.path)
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise unreadable(folder, error) from error
  return dict(sorted(found.items(), reverse=True))


def exists(path: Folder) -> bool:
  """Whether there is such a file or folder. Raises RunError where that cannot be found out."""
  try:
    os.stat(path)
  except (FileNotFoundError, NotADirectoryError):
    return False
  except OSError as error:
    raise unreadable(path, error) from error
  return True


def free(path: pathlib.Path) -> pathlib.Path:
  """This path where nothing has it yet; or else the first of NAME-2, NAME-3, ... before the last dot that is free."""
  found, number = path, 1
  while os.path.lexists(found):
    number += 1
    found = path.with_name(f'{path.stem}-{number}{path.suffix}')
  return found


def unreadable(path: Folder, error: OSError | MemoryError) -> RunError:
  """What to raise where a file cannot be read, which says nothing about what is in it."""
  reason = 'not enough memory' if isinstance(error, MemoryError) else error.strerror or error
  return RunError(f'{path}: cannot be read ({reason}). Run the same command again once it can')
