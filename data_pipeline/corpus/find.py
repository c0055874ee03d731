"""Which files a corpus spec names: those of a folder or a glob, each once, and what is left out of them.

Hidden files and folders are not looked at, unless a glob names them. Links are followed, but a file or a folder that is
there by its own name, or by another link, is not read again; so a link to a folder that it is in ends nowhere.
"""
import glob
import os
import stat
import sysconfig
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

from data_pipeline.corpus.account import shown
from flags.errors import UserError

WORKDIR_FILES = {'config.json', 'tokenizer.json'}  # a folder that holds both is the workdir of a run
PREPARED_FILES = {'tokens.json', 'tokenizer.json'}  # and one that holds both of these was made by charlm-prepare
NOT_LIBRARY = {'test', 'tests', 'idle_test', 'site-packages', 'dist-packages'}  # folders that stdlib leaves out
AGAIN = 'read by another name'


class Found(NamedTuple):
  """The files of a corpus spec."""
  files: list[str]  # sorted
  left_out: dict[str, str]  # {path: why}
  root: str = ''  # the folder that paths are told from; '' for a file or a glob
  alone: bool = False  # whether the spec is the name of one file


def find_files(spec: str) -> Found:
  """The files that a spec names, whatever is in them.

  Raises:
    UserError: there is no such file or folder, or no match.
  """
  left_out: dict[str, str] = {}
  if spec == 'stdlib':
    library = sysconfig.get_path('stdlib')
    sources = [path for path in _walk_files(library, left_out, NOT_LIBRARY) if path.endswith('.py')]
    return Found(_once(sources, left_out), left_out, library)
  mode = _mode(spec)
  if stat.S_ISDIR(mode):
    if all(os.path.exists(os.path.join(spec, name)) for name in PREPARED_FILES):
      raise UserError(f'--corpus={spec}: holds prepared tokens; expected text, or --corpus=tokens:{spec}')
    return Found(_once(_walk_files(spec, left_out), left_out), left_out, spec)
  if mode:
    if not stat.S_ISREG(mode):
      raise UserError(f'--corpus={spec}: expected a regular file or a folder, which can be read more than once')
    return Found([spec], left_out, alone=True)
  if not glob.has_magic(spec):
    raise UserError(f"--corpus='{spec}': no such file or folder; expected pydoc, stdlib, a file, a folder, a glob, "
                    'or tfds:NAME')
  matches = {*_expand(spec, left_out)}
  if not matches:
    raise UserError(f'--corpus={spec}: expected a glob that matches files, found no match in '
                    f'{shown(os.path.abspath(_base(spec)))}')
  folders = {match for match in matches if os.path.isdir(match)}
  left_out |= {} if '**' in spec.split('/') else dict.fromkeys(folders, 'a folder, which ** goes into')
  left_out |= {match: 'in the workdir of a run' for match in matches if _in_workdir(match, spec)}
  return Found(_once(matches - folders - left_out.keys(), left_out), left_out)


def why_unreadable(error: OSError) -> str:
  """Why a file is left out that cannot be opened."""
  return f'cannot be read ({error.strerror or error})'


def _mode(spec: str) -> int:
  """The st_mode of what a path leads to; 0 where there is nothing. Raises UserError where that cannot be told."""
  try:
    return os.stat(spec).st_mode
  except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: the name has a NUL in it
    if isinstance(error, OSError) and os.path.islink(spec):
      raise UserError(f'--corpus={spec}: is a broken link, to {shown(os.readlink(spec))}; expected a file or a '
                      'folder') from error
    return 0
  except OSError as error:
    if glob.has_magic(spec):
      return 0
    raise UserError(f'--corpus={spec}: {why_unreadable(error)}') from error


def _once(paths: Iterable[str], left_out: dict[str, str]) -> list[str]:
  """Sorted paths of the regular files among `paths`, each file once; a name of its own goes before a link."""
  seen, files = set(), []
  for path in sorted(paths, key=lambda path: (os.path.islink(path), path)):
    real = _real(path)
    if not os.path.isfile(path):
      left_out[path] = 'no regular file' if os.path.exists(path) else 'a broken link'
    elif real in seen:
      left_out[path] = AGAIN
    else:
      files.append(path)
    seen.add(real)
  return sorted(files)


def _walk_files(root: str, left_out: dict[str, str], skipped: Set[str] = frozenset()) -> Iterator[str]:
  for folder, names in _walk(root, left_out, skipped):
    yield from (os.path.join(folder, name) for name in names)


def _walk(root: str, left_out: dict[str, str],
          skipped: Set[str] = frozenset()) -> Iterator[tuple[str, list[str]]]:
  """The folders from `root` down, each once: (folder, the names in it that are no folders).

  Args:
    root: where to begin; '' is the current folder.
    left_out: what is met and left out is added: workdirs below the root, folders that cannot be read, links to
      folders that are read anyway.
    skipped: names of folders to leave out without a word.
  """
  seen: set[str] = set()
  links: list[str] = []
  folders = [root]
  while folders or links:
    by_link = not folders
    folder = links.pop(0) if by_link else folders.pop()
    real = _real(folder)
    if by_link and _is_inside(os.path.dirname(folder), real):
      left_out[folder] = 'a link to a folder that it is in'
      continue
    if real in seen:
      left_out[folder] = AGAIN
      continue
    seen.add(real)
    try:
      entries = [entry for entry in os.scandir(folder or '.') if not entry.name.startswith('.')]
    except OSError as error:
      left_out[folder] = why_unreadable(error)
      continue
    if folder != root and {entry.name for entry in entries} >= WORKDIR_FILES:
      left_out[folder] = 'the workdir of a run'
      continue
    if folder != root and {entry.name for entry in entries} >= PREPARED_FILES:
      left_out[folder] = 'prepared tokens'
      continue
    below = {entry.name for entry in entries if os.path.isdir(entry)}
    for entry in sorted(entries, key=lambda entry: entry.name):
      if entry.name in below - skipped:
        (links if entry.is_symlink() else folders).append(os.path.join(folder, entry.name))
    yield folder, [entry.name for entry in entries if entry.name not in below]


def _real(path: str) -> str:
  """Where a path leads to; the path itself where a link may not be read."""
  try:
    return os.path.realpath(path)
  except OSError:
    return os.path.abspath(path)


def _is_inside(folder: str, real: str) -> bool:
  """Whether a folder is the one at the path `real`, or below it."""
  return os.path.commonpath([_real(folder), real]) == real


def _expand(pattern: str, left_out: dict[str, str]) -> Iterator[str]:
  """What a glob matches; as glob.glob(recursive=True), but ** goes into each folder once, however links go round."""
  parts = pattern.split('/')
  if '**' not in parts:
    yield from glob.glob(pattern)
    return
  at = parts.index('**')
  head, rest = '/'.join(parts[:at]) or pattern[:pattern.startswith('/')], parts[at + 1:]
  while rest[:1] == ['**']:
    rest = rest[1:]
  for base in glob.glob(head) if head else ['']:
    for folder, names in _walk(base, left_out) if os.path.isdir(base or '.') else ():
      if rest:
        yield from _expand(os.path.join(glob.escape(folder), *rest), left_out)
      else:
        yield from (os.path.join(folder, name) for name in names)


def _base(pattern: str) -> str:
  """The folder that a glob is matched in: the path before its first wildcard."""
  while glob.has_magic(pattern):
    pattern = os.path.dirname(pattern)
  return pattern


def _in_workdir(file: str, pattern: str) -> bool:
  """Whether the file is below a workdir that a wildcard of the pattern has matched."""
  folder, base = os.path.dirname(file), _base(pattern)
  while folder not in (base, '', '/'):
    if all(os.path.exists(os.path.join(folder, name)) for name in WORKDIR_FILES):
      return True
    folder = os.path.dirname(folder)
  return False
