"""Corpora that are files: a file, a folder, a glob, and the text that Python itself carries.

Files are read in sorted order. Those that end in .gz .bz2 .xz .zst are unpacked. A folder stands for its text files,
but not the hidden ones, nor those that runs of charlm-train have left in it; neither does a wildcard of a glob stand
for the workdir of a run.
"""
import bz2
import contextlib
import functools
import glob
import gzip
import itertools
import lzma
import os
import pathlib
import sysconfig
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any

from data_pipeline.corpus.spool import spooled
from data_pipeline.corpus.text import BLOCK_BYTES, Part, Text, reading
from flags.errors import UserError

SNIFFED_BYTES = 1024  # the start of a file in a folder; text has no NUL there
PACKED = ('.gz', '.bz2', '.xz', '.zst')
WORKDIR_FILES = {'config.json', 'tokenizer.json'}  # a folder that holds both is the workdir of a run
NOT_LIBRARY = {'test', 'tests', 'idle_test', 'site-packages', 'dist-packages'}  # folders that stdlib leaves out


def pydoc_parts() -> list[Part]:
  """The one part of --corpus=pydoc; each topic is a document. Raises UserError if this Python has no topics."""
  return spooled('pydoc', [('pydoc', _pydoc_topics)], documents=True)


def file_parts(spec: str) -> list[Part]:
  """Spec -> a Part for each file that is not empty; all but the last end in a newline.

  Raises:
    UserError: there is no text, or it cannot be read.
  """
  paths = _find_files(spec)
  packed = [path for path in paths if path.lower().endswith(PACKED)]
  unpacked = iter(spooled(spec, [(path, functools.partial(_read_file, path)) for path in packed]))
  parts = [next(unpacked) if path.lower().endswith(PACKED) else _plain_part(spec, path) for path in paths]
  parts = [part for part in parts if part.size]
  return [*(_with_newline(spec, part) for part in parts[:-1]), *parts[-1:]]


def _pydoc_topics() -> Iterator[bytes]:
  try:
    from pydoc_data.topics import topics
  except ImportError as error:  # some distributions split Python up
    raise UserError('--corpus=pydoc: expected a Python with the pydoc_data package; this one has none') from error
  *others, last = sorted(topics)
  yield from (f'{topics[key]}\n'.encode() for key in others)
  yield topics[last].encode()


def _find_files(spec: str) -> list[str]:
  """Spec -> the paths of its text files. Raises UserError if there are none."""
  if spec == 'stdlib':
    return [path for path in _walk(spec, sysconfig.get_path('stdlib'), NOT_LIBRARY) if path.endswith('.py')]
  path = os.path.expanduser(spec)
  if os.path.isdir(path):
    files = [file for file in _walk(spec, path) if _is_text(spec, file)]
    if not files:
      raise UserError(f'--corpus={spec}: expected a folder with text files, found no text in it')
    return files
  if os.path.exists(path):
    if not os.path.isfile(path):
      raise UserError(f'--corpus={spec}: expected a regular file or a folder, which can be read more than once')
    return [path]
  if glob.has_magic(path):
    files = [file for file in sorted(glob.glob(path, recursive=True))
             if os.path.isfile(file) and not _in_workdir(file, path)]
    if not files:
      raise UserError(f'--corpus={spec}: expected a glob that matches files, found no match')
    return files
  raise UserError(f"--corpus='{spec}': no such file or folder; expected pydoc, stdlib, a file, a folder, a glob, "
                  'or tfds:NAME')


def _in_workdir(file: str, pattern: str) -> bool:
  """Whether the file is below a workdir that a wildcard of the pattern has matched."""
  while glob.has_magic(pattern):
    pattern = os.path.dirname(pattern)
  below = itertools.takewhile(lambda folder: folder != pathlib.Path(pattern), pathlib.Path(file).parents)
  return any(all((folder / name).exists() for name in WORKDIR_FILES) for folder in below)


def _walk(spec: str, root: str, skipped: Collection[str] = frozenset()) -> list[str]:
  """The regular files below `root`, sorted by path.

  Left out: hidden files and folders, folders whose name is in `skipped`, and workdirs below `root`.
  """
  files = []

  def stop(error: OSError) -> None:
    raise UserError(f'--corpus={spec}: {error.filename} cannot be read ({error.strerror})') from error

  for folder, folders, names in os.walk(root, onerror=stop):
    if folder != root and {*names} >= WORKDIR_FILES:
      folders[:] = []
      continue
    folders[:] = [name for name in folders if not name.startswith('.') and name not in skipped]
    files += [os.path.join(folder, name) for name in names if not name.startswith('.')]
  return sorted(file for file in files if os.path.isfile(file))


def _is_text(spec: str, path: str) -> bool:
  with reading(spec, path), contextlib.closing(_read_file(path)) as blocks:
    start = next(blocks, b'')[:SNIFFED_BYTES]
  return bool(start) and b'\0' not in start


def _read_file(path: str, start: int = 0) -> Generator[bytes, None, None]:
  """The bytes of a file, unpacked, in blocks; `start`: offset of the first one (0 for .zst)."""
  suffix = os.path.splitext(path)[1].lower()
  if suffix == '.zst':
    yield from _read_zst(path)
    return
  unpackers: dict[str, Callable[..., Any]] = {'.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}
  with unpackers.get(suffix, open)(path, 'rb') as file:
    file.seek(start)
    while block := file.read(BLOCK_BYTES):
      yield block


def _read_zst(path: str) -> Iterator[bytes]:
  try:
    import zstandard
  except ImportError as error:
    raise UserError(f'{path}: expected zstandard to be installed; pip install zstandard') from error
  frame, packed = None, b''
  with open(path, 'rb') as file:
    # zstandard's own readers do not complain if the file ends inside a frame. 16 KB at a time, because they may
    # unpack to much more.
    while packed := packed or file.read(1 << 14):
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


def _plain_part(spec: str, path: str) -> Part:
  with reading(spec, path), open(path, 'rb') as file:
    return Part(path, os.fstat(file.fileno()).st_size, functools.partial(_read_file, path))


def _with_newline(spec: str, part: Part) -> Part:
  """`part`, with a newline added if it does not end in one."""
  if b''.join(Text(spec, [part], part.size - 1).blocks()) == b'\n':
    return part

  def read(start: int) -> Iterator[bytes]:
    if start < part.size:
      yield from part.read(start)
    yield b'\n'

  return part._replace(size=part.size + 1, read=read)
