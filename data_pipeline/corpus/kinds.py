"""What a file is that is no text, told from its first bytes and not from its name, and how text is made of it."""
import shlex
import unicodedata
from typing import NamedTuple

from data_pipeline.corpus.account import shown

START_BYTES = 8192  # of a file, that are looked at; text has no NUL there
MARK = b'\xef\xbb\xbf'  # the byte order mark of UTF-8; it says what a file is, and is no text


class Kind(NamedTuple):
  """What a file is that is no text."""
  name: str  # as it follows 'is'
  advice: str = 'expected text, without NUL bytes'  # what to do, as it follows a semicolon; {} is the file


class Packing(NamedTuple):
  """How a compressed file is packed."""
  name: str
  suffix: str
  unpacker: str  # the usual command


PACKINGS = {b'\x1f\x8b': Packing('gzip', '.gz', 'gunzip'), b'BZh': Packing('bzip2', '.bz2', 'bunzip2'),
            b'\xfd7zXZ\0': Packing('xz', '.xz', 'unxz'), b'\x28\xb5\x2f\xfd': Packing('zstd', '.zst', 'unzstd')}
SUFFIXES = {packing.suffix: packing for packing in PACKINGS.values()}
BZIP2_BLOCKS = (b'1AY&SY', b'\x17rE8P\x90')  # after BZh and a digit: there are texts that begin with these four letters

BINARY = Kind('binary')
UNPACK = 'unpack it first: {}'
OFFICE = 'extract its text first: soffice --headless --convert-to txt:Text {}'
TAR = Kind('a tar archive', UNPACK.format('tar -xf {}'))
OFFICE_DOCUMENT = Kind('an office document', OFFICE)
ZIPPED = {b'application/epub+zip': Kind('an EPUB book', 'extract its text first: pandoc -t plain -o book.txt {}'),
          b'application/vnd.oasis.opendocument': OFFICE_DOCUMENT, b'[Content_Types].xml': OFFICE_DOCUMENT,
          b'word/document.xml': OFFICE_DOCUMENT}
ZIP = Kind('a zip archive', UNPACK.format('unzip {}'))
# First bytes of what has its own name. Those that are letters might begin a text, too: see `_is_named`.
NAMED = {b'PK\3\4': ZIP, b'PK\5\6': ZIP, b'PK\7\x08': ZIP,
         b'7z\xbc\xaf\x27\x1c': Kind('a 7z archive', UNPACK.format('7z x {}')),
         b'Rar!\x1a\7': Kind('a RAR archive', UNPACK.format('unrar x {}')),
         b'\x04\x22\x4d\x18': Kind('an lz4 archive', UNPACK.format('unlz4 {}')),
         b'\x1f\x9d': Kind('a .Z archive', UNPACK.format('uncompress {}')),
         b'LZIP\1': Kind('an lzip archive', UNPACK.format('lzip -d {}')),
         b'%PDF-': Kind('a PDF', 'extract its text first: pdftotext {}'),
         b'{\\rtf': Kind('an office document (RTF)', OFFICE),
         b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1': OFFICE_DOCUMENT,
         **dict.fromkeys([b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff', b'GIF87a', b'GIF89a', b'II*\0', b'MM\0*'],
                         Kind('an image', 'expected text'))}
UNITS = {'UTF-32LE': 4, 'UTF-32BE': 4, 'UTF-16LE': 2, 'UTF-16BE': 2}  # encodings, and the bytes of a unit
CONTROLS = '\t\n\r\f\v\b\x1a\x1b'  # that texts have
MARKS = {b'\xff\xfe\0\0': 'UTF-32', b'\0\0\xfe\xff': 'UTF-32', b'\xff\xfe': 'UTF-16', b'\xfe\xff': 'UTF-16'}


def packing_of(start: bytes, path: str) -> Packing | None:
  """How a file is packed; None where it is not.

  A name such as a.gz decides only where the file begins as nothing that is known, and so is damaged.

  Args:
    start: its first START_BYTES.
    path: its name.
  """
  for magic, packing in PACKINGS.items():
    if start.startswith(magic) and (magic != b'BZh' or start[4:].startswith(BZIP2_BLOCKS)):
      return packing
  suffix = next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), '')
  known = not suffix or _is_utf8(start) or _kind(start) not in (None, BINARY)
  return None if known else SUFFIXES[suffix]


def kind_of(start: bytes, packing: Packing | None = None) -> Kind | None:
  """What a file is that is no text; None for text.

  Args:
    start: its first START_BYTES, unpacked.
    packing: how the file is packed that it was unpacked from.
  """
  inner = packing and packing_of(start, '')
  kind = Kind(f'{inner.name} inside {packing.name}') if packing and inner else _kind(start)
  if kind and packing and kind != TAR:
    name = kind.name if inner else f'{kind.name}, packed with {packing.name}'
    return Kind(name, UNPACK.format(f'{packing.unpacker} {{}}'))
  return kind


def advise(kind: Kind, path: str) -> str:
  """'is a zip archive; unpack it first: unzip a.zip'"""
  return f'is {kind.name}; {kind.advice.format(shown(shlex.quote(path)))}'


def _kind(start: bytes) -> Kind | None:
  kind = next((kind for magic, kind in NAMED.items() if _is_named(start, magic)), None)
  if kind == ZIP:
    return next((inner for words, inner in ZIPPED.items() if words in start), ZIP)
  if kind:
    return kind
  if start[257:262] == b'ustar' and b'\0' in start[:512]:
    return TAR
  encoding = next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), '') or _wide(start)
  if encoding:
    return Kind(encoding, f'convert it: iconv -f {encoding} -t UTF-8 {{}} > text.txt')
  return BINARY if b'\0' in start else None


def _is_named(start: bytes, magic: bytes) -> bool:
  """Whether a file begins with `magic` and is not a text that happens to do so."""
  if not start.startswith(magic):
    return False
  if magic == b'%PDF-':
    return start[5:6].isdigit()
  return not magic.isalnum() or b'\0' in start


def _wide(start: bytes) -> str:
  """The encoding of a text without a mark whose characters have 2 or 4 bytes each; '' for anything else."""
  rest = start.replace(b'\0', b'')
  few = len(start) - len(rest) < len(start) // 4
  if len(rest) == len(start) or (few and _is_utf8(rest) and _is_text(rest.decode(errors='ignore'))):
    return ''  # the latter is UTF-8 with a few NULs in it
  big = start[0::2].count(0) > start[1::2].count(0)  # the bytes that are 0 in most texts come first
  for encoding, size in UNITS.items():
    if big != encoding.endswith('BE'):
      continue
    whole = start[:len(start) // size * size]
    try:
      text = whole.decode(encoding)
    except UnicodeDecodeError as error:
      if error.start < len(whole) - 2:  # else the start ends inside a character
        continue
      text = whole[:error.start].decode(encoding)
    if text and _is_text(text):
      return encoding
  return ''


def _is_text(text: str) -> bool:
  return all(c in CONTROLS or unicodedata.category(c) not in ('Cc', 'Cn', 'Co') for c in text)


def _is_utf8(start: bytes) -> bool:
  try:
    start.decode()
  except UnicodeDecodeError as error:
    return len(start) == START_BYTES and error.start > START_BYTES - 4  # it may end inside a character
  return b'\0' not in start
