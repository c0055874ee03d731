"""Corpora that are files: a file, a folder, a glob, and the text that Python itself carries.

Files are read in sorted order. Those that are packed (.gz .bz2 .xz .zst) are unpacked, whatever their names. What is no
text is left out of a folder or a glob, and counted; a file that was named is refused. A byte order mark at the start of
a file is no text.
"""
import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data_pipeline.corpus.account import Account, shown
from data_pipeline.corpus.find import Found, find_files, why_unreadable
from data_pipeline.corpus.kinds import MARK, START_BYTES, Kind, Packing, advise, kind_of, packing_of
from data_pipeline.corpus.packed import read_file, unpack, without_mark
from data_pipeline.corpus.spool import Keep, Source, spooled
from data_pipeline.corpus.text import Part, Text, reading
from flags.errors import UserError


class _File(NamedTuple):
  """A text file."""
  path: str
  size: int  # bytes on the disk
  packing: Packing | None
  mark: int  # bytes of a byte order mark at its start


def pydoc_parts(keep: Keep = spooled) -> tuple[list[Part], Account]:
  """The one part of --corpus=pydoc; each topic is a document. Raises UserError if this Python has no topics."""
  parts = keep('pydoc', [Source('pydoc', _pydoc_topics)], documents=True)
  return parts, Account(len(parts[0].documents), 'topic')


def file_parts(spec: str, keep: Keep = spooled) -> tuple[list[Part], Account]:
  """As `text_parts`; all parts but the last end in a newline."""
  parts, account = text_parts(spec, keep)
  return [*(_with_newline(spec, part) for part in parts[:-1]), *parts[-1:]], account


def text_parts(spec: str, keep: Keep = spooled) -> tuple[list[Part], Account]:
  """Finds the files that have text.

  Args:
    spec: the corpus.
    keep: makes parts of packed files, such as `spooled`.

  Returns:
    A Part for each file, and what was found.

  Raises:
    UserError: there is no text, or it cannot be read.
  """
  found = find_files(spec)
  files, kinds = _texts(spec, found)
  packed = iter(keep(spec, [Source(shown(file.path), functools.partial(_unpacked, file.path, file.packing), file.path)
                            for file in files if file.packing]))
  parts = [next(packed)._replace(mark=file.mark) if file.packing else _plain_part(file) for file in files]
  left_out = {os.path.relpath(path, found.root) if found.root else path: why for path, why in found.left_out.items()}
  account = Account(len(parts), 'file', left_out)
  if not parts and not found.alone:
    advice = next((f'. {shown(path)} {advise(kind, path)}' for path, kind in kinds.items()), '')
    what = account.what_is_left_out()
    raise UserError(f'--corpus={spec}: expected text files, found no text in it{"; " * bool(what)}{what}{advice}')
  return parts, account


def _pydoc_topics() -> Iterator[bytes]:
  try:
    from pydoc_data.topics import topics
  except ImportError as error:  # some distributions split Python up
    raise UserError('--corpus=pydoc: expected a Python with the pydoc_data package; this one has none') from error
  *others, last = sorted(topics)
  yield from (f'{topics[key]}\n'.encode() for key in others)
  yield topics[last].encode()


def _texts(spec: str, found: Found) -> tuple[list[_File], dict[str, Kind]]:
  """The text files among those that were found; the others are added to `found.left_out`.

  Returns:
    The text files, and {path: what it is} of those that are something else.

  Raises:
    UserError: the one file that the spec names is no text, or a packed one is damaged.
  """
  files, kinds = [], {}
  for path in found.files:
    try:
      file, start = _open(spec, path)
    except OSError as error:
      if found.alone or not isinstance(error, (PermissionError, FileNotFoundError)):
        raise UserError(f'--corpus={spec}: {shown(path)} {why_unreadable(error)}') from error
      found.left_out[path] = why_unreadable(error)
      continue
    kind = kind_of(start, file.packing)
    if kind and found.alone:
      raise UserError(f'--corpus={spec}: {advise(kind, path)}')
    if kind:
      kinds[path] = kind
      found.left_out[path] = kind.name
    elif start:
      files.append(file)
    elif not found.alone:
      found.left_out[path] = 'empty'
  return files, kinds


def _open(spec: str, path: str) -> tuple[_File, bytes]:
  """A file, and its first START_BYTES, unpacked and without a byte order mark.

  Raises:
    OSError: it cannot be opened.
    UserError: it cannot be read, or is damaged.
  """
  with open(path, 'rb') as file, reading(spec, shown(path)):
    size, start = os.fstat(file.fileno()).st_size, file.read(START_BYTES)
    packing = packing_of(start, path)
    if packing:
      with contextlib.closing(unpack(path, packing)) as blocks:
        start = next(blocks, b'')[:START_BYTES]
  mark = len(MARK) if start.startswith(MARK) else 0
  return _File(path, size, packing, mark), start[mark:]


def _unpacked(path: str, packing: Packing) -> Iterator[bytes]:
  return without_mark(unpack(path, packing))


def _plain_part(file: _File) -> Part:
  return Part(shown(file.path), file.size - file.mark, functools.partial(_read_plain, file.path, file.mark),
              mark=file.mark, path=file.path)


def _read_plain(path: str, mark: int, start: int) -> Iterator[bytes]:
  return read_file(path, mark + start)


def _with_newline(spec: str, part: Part) -> Part:
  """`part`, with a newline added if it does not end in one."""
  if part.ends_line or (part.seeks and Text(spec, [part]).read(part.size - 1, part.size) == b'\n'):
    return part
  return part._replace(size=part.size + 1, read=functools.partial(_read_and_end, part.read, part.size))


def _read_and_end(read: Callable[[int], Iterator[bytes]], size: int, start: int) -> Iterator[bytes]:
  """What is read from `start` on of a part of `size` bytes, and a newline."""
  if start < size:
    yield from read(start)
  yield b'\n'
