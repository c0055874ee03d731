"""A corpus spec -> the text of its splits, in blocks. Nothing else reads text.

  pydoc                 the language reference that Python carries
  stdlib                the sources of Python's standard library
  a file, folder, glob  text files, in sorted order; .gz .bz2 .xz .zst are unpacked; of a folder no hidden files, nor
                        those that runs of charlm-train have left in it; these not of what a glob's * stands for, either
  tfds:NAME[/CONFIG]    a data set of TensorFlow Datasets

A corpus is one long row of bytes: its parts (files, or splits of a data set) one after the other. A part that
does not end in a newline gets one if another part follows it. A split is a range of that row:

  |--------- train ---------|---- valid ----|-- test --|    cuts are moved to where a character starts

Each file, each example of a data set and each topic of pydoc is a document; a separator in the text may part them
further. So a document ends in a newline, or in the separator.

Nothing is held in memory. What cannot be read from any place at once (packed files, data sets) is unpacked to a
temporary file, which has no name and goes when the text does.
"""
import bisect
import bz2
import contextlib
import functools
import glob
import gzip
import hashlib
import itertools
import lzma
import os
import pathlib
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from flags.errors import UserError

BLOCK = 4 << 20  # bytes of text in hand at a time
SNIFF = 1024  # bytes at the start of a file of a folder that tell text from other files
PACKED = ('.gz', '.bz2', '.xz', '.zst')
RUN = {'config.json', 'tokenizer.json'}  # in a folder, tell that it is the workdir of a run
NOT_LIBRARY = {'test', 'tests', 'idle_test', 'site-packages', 'dist-packages'}
SPLITS = {'train': ['train'], 'valid': ['validation', 'valid', 'dev'], 'test': ['test']}  # ours -> tfds names


class Part(NamedTuple):
  """A stretch of the corpus that comes from one place."""
  name: str
  size: int  # bytes
  read: Callable[[int], Iterator[bytes]]  # offset in the part -> the bytes from there on, in blocks
  documents: tuple = (0,)  # offsets in the part where documents start


class Text:
  """A range of a corpus. Reads it anew each time it is asked for its blocks.

  Attributes:
    num_bytes: the length of the text.
  """

  def __init__(self, spec, parts, start=0, stop=None):
    """`start`, `stop`: the range in bytes, from the start of the first part."""
    self._spec, self._parts = spec, parts
    self._begins = [0, *itertools.accumulate(part.size for part in parts)]
    self._start, self._stop = start, self._begins[-1] if stop is None else stop
    self.num_bytes = self._stop - self._start

  def blocks(self):
    """Iterator over the bytes in blocks of 4 MB, the last one shorter."""
    held, size = [], 0
    for chunk in self._chunks():
      held.append(chunk)
      size += len(chunk)
      if size >= BLOCK:
        block = b''.join(held)
        yield block[:BLOCK]
        held, size = [block[BLOCK:]], size - BLOCK
    if size:
      yield b''.join(held)

  def slice(self, start, stop):
    """The text from byte `start` to byte `stop` of this one."""
    return Text(self._spec, self._parts, self._start + start, self._start + stop)

  def locate(self, offset):
    """Offset in this text -> name of the file (or data set) there, offset in it."""
    place = self._start + offset
    i = bisect.bisect_right(self._begins, place, hi=len(self._parts)) - 1
    return self._parts[i].name, place - self._begins[i]

  def character_start(self, offset):
    """The first offset from `offset` on where a UTF-8 character starts (or the text ends)."""
    near = b''.join(self.slice(offset, min(offset + 4, self.num_bytes)).blocks())
    return offset + next((i for i, byte in enumerate(near[:3]) if byte & 0xC0 != 0x80), min(len(near), 3))

  def document_starts(self, separator=b''):
    """The offsets where documents start, but for the first: [n] int64, rising. Each separator ends one, too."""
    starts = [begin - self._start + np.array(part.documents, np.int64)
              for part, begin in zip(self._parts, self._begins[:-1], strict=True)]
    starts = np.unique(np.concatenate([*starts, self._ends_of(separator)]))
    return starts[(starts > 0) & (starts < self.num_bytes)]

  def _ends_of(self, separator):
    """The offsets where a separator ends: [n] int64; none where it is empty."""
    ends, held, place = [], b'', 0  # place: of the first byte held
    for block in self.blocks() if separator else ():
      held, used = held + block, 0
      while (found := held.find(separator, used)) >= 0:
        used = found + len(separator)
        ends.append(place + used)
      used = max(used, len(held) - len(separator) + 1)
      held, place = held[used:], place + used
    return np.array(ends, np.int64)

  def _chunks(self):
    for part, begin in zip(self._parts, self._begins[:-1], strict=True):
      first, last = max(self._start - begin, 0), min(self._stop - begin, part.size)
      if first >= last:
        continue
      with _naming(self._spec, part.name):
        for chunk in part.read(first):
          chunk = chunk[:last - first]
          first += len(chunk)
          yield chunk
          if first == last:
            break
      if first != last:
        raise UserError(f'--corpus={self._spec}: {part.name} became shorter while it was read')


def open_corpus(spec, *, data_dir='', text_feature='', valid_fraction=0.1, test_fraction=0.0):
  """Corpus spec -> {'train': Text, 'valid': Text, 'test': Text}, without the splits that are empty.

  valid_fraction and test_fraction are shares of the bytes, cut from the end. A data set's own valid and test
  splits are kept instead, and its train split is cut only for what is missing.

  Raises UserError, which names the spec and the file, where the corpus has no text or it cannot be read.
  """
  own = {}  # split -> its range, where the corpus brings its own
  if spec.startswith('tfds:'):
    parts, own = _tfds_parts(spec, data_dir, text_feature)
  elif spec == 'pydoc':
    parts = _spooled(spec, [('pydoc', _pydoc)], documents=True)
  else:
    parts = _file_parts(spec, _find_files(spec))
  whole = Text(spec, parts)
  if not whole.num_bytes:
    raise UserError(f'--corpus={spec}: expected text, found 0 bytes')
  start, end = own.pop('train', (0, whole.num_bytes))
  shares = {'valid': valid_fraction, 'test': test_fraction}
  cuts = {split: int((end - start) * share) for split, share in shares.items() if split not in own}
  for split in reversed(cuts):
    cut = min(whole.character_start(end - cuts[split]), end)
    own[split], end = (cut, end), cut
  ranges = {'train': (start, end), 'valid': own['valid'], 'test': own['test']}
  return {split: whole.slice(*r) for split, r in ranges.items() if r[0] < r[1]}


def fingerprint(splits, starts=None):
  """{split: Text} -> sha256 over their bytes and lengths, and where documents start, however they are stored.

  starts: {split: [n] int64} where documents matter.
  """
  digest = hashlib.sha256()
  for split, text in splits.items():
    digest.update(f'{split} {text.num_bytes}\n'.encode())
    if starts:
      digest.update(f'{len(starts[split])} documents more\n'.encode() + starts[split].tobytes())
    for block in text.blocks():
      digest.update(block)
  return digest.hexdigest()


@contextlib.contextmanager
def _naming(spec, name):
  """Turns what goes wrong while reading `name` into a UserError."""
  try:
    yield
  except (EOFError, zlib.error, lzma.LZMAError) as error:
    raise UserError(f'--corpus={spec}: {name} is damaged or cut short ({error})') from error
  except OSError as error:
    problem = f'cannot be read ({error.strerror})' if error.errno else f'is damaged ({error})'
    raise UserError(f'--corpus={spec}: {name} {problem}') from error


def _pydoc():
  try:
    from pydoc_data.topics import topics
  except ImportError as error:  # some distributions split Python up
    raise UserError('--corpus=pydoc: expected a Python with the pydoc_data package; this one has none') from error
  *others, last = sorted(topics)
  yield from (f'{topics[key]}\n'.encode() for key in others)
  yield topics[last].encode()


def _find_files(spec):
  """Spec -> list of paths of text files."""
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
             if os.path.isfile(file) and not _of_a_run(file, path)]
    if not files:
      raise UserError(f'--corpus={spec}: expected a glob that matches files, found no match')
    return files
  raise UserError(f"--corpus='{spec}': no such file or folder; expected pydoc, stdlib, a file, a folder, a glob, "
                  'or tfds:NAME')


def _of_a_run(file, pattern):
  """Whether the file is below a workdir that a wildcard of the pattern has matched."""
  while glob.has_magic(pattern):
    pattern = os.path.dirname(pattern)
  below = itertools.takewhile(lambda folder: folder != pathlib.Path(pattern), pathlib.Path(file).parents)
  return any(all((folder / name).exists() for name in RUN) for folder in below)


def _walk(spec, root, without=frozenset()):
  """Regular files below `root`, sorted by path, but for hidden ones, folders of the names `without`, and workdirs."""
  files = []

  def stop(error):
    raise UserError(f'--corpus={spec}: {error.filename} cannot be read ({error.strerror})') from error

  for folder, folders, names in os.walk(root, onerror=stop):
    if folder != root and {*names} >= RUN:
      folders[:] = []
      continue
    folders[:] = [name for name in folders if not name.startswith('.') and name not in without]
    files += [os.path.join(folder, name) for name in names if not name.startswith('.')]
  return sorted(file for file in files if os.path.isfile(file))


def _is_text(spec, path):
  with _naming(spec, path), contextlib.closing(_read_file(path)) as chunks:
    start = next(chunks, b'')[:SNIFF]
  return bool(start) and b'\0' not in start


def _read_file(path, start=0):
  """Iterator over the bytes of a file, unpacked, from offset `start` on."""
  suffix = os.path.splitext(path)[1].lower()
  if suffix == '.zst':
    yield from _read_zst(path)
    return
  with {'.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}.get(suffix, open)(path, 'rb') as file:
    file.seek(start)
    while block := file.read(BLOCK):
      yield block


def _read_zst(path):
  try:
    import zstandard
  except ImportError as error:
    raise UserError(f'{path}: expected zstandard to be installed; pip install zstandard') from error
  frame, packed = None, b''
  with open(path, 'rb') as file:
    # zstandard's own readers end quietly in the middle of a frame. 16 KB at a time: text of any size may come out.
    while packed := packed or file.read(1 << 14):
      frame = frame or zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
      try:
        chunk = frame.decompress(packed)
      except zstandard.ZstdError as error:
        raise EOFError(error) from error
      packed = frame.unused_data if frame.eof else b''
      frame = None if frame.eof else frame
      if chunk:
        yield chunk
  if frame:
    raise EOFError('it ends inside a frame')


def _file_parts(spec, paths):
  """Paths -> Parts, none of them empty."""
  packed = [path for path in paths if path.lower().endswith(PACKED)]
  spooled = iter(_spooled(spec, [(path, functools.partial(_read_file, path)) for path in packed]))
  parts = [next(spooled) if path.lower().endswith(PACKED) else _plain_part(spec, path) for path in paths]
  parts = [part for part in parts if part.size]
  return [*(_end_line(spec, part) for part in parts[:-1]), *parts[-1:]]


def _plain_part(spec, path):
  with _naming(spec, path), open(path, 'rb') as file:
    return Part(path, os.fstat(file.fileno()).st_size, functools.partial(_read_file, path))


def _end_line(spec, part):
  """`part`, and a newline where it does not end in one."""
  if b''.join(Text(spec, [part], part.size - 1).blocks()) == b'\n':
    return part

  def read(start):
    if start < part.size:
      yield from part.read(start)
    yield b'\n'

  return part._replace(size=part.size + 1, read=read)


def _spooled(spec, sources, *, documents=False):
  """List of (name, function that gives an iterator over blocks) -> Parts that can be read from any offset.

  The blocks are copied to a temporary file. documents: whether each block is one.
  """
  if not sources:
    return []
  parts = []
  try:
    spool = tempfile.TemporaryFile(prefix='charlm-')  # noqa: SIM115 (closes when the last Part goes)
  except OSError as error:
    raise UserError(f'TMPDIR={tempfile.gettempdir()}: expected a folder to unpack {spec} in ({error})') from error

  def read_from(begin, size):
    def read(start):
      while start < size and (block := os.pread(spool.fileno(), min(BLOCK, size - start), begin + start)):
        start += len(block)
        yield block
    return read

  for name, read in sources:
    begin, starts = spool.tell(), []
    with _naming(spec, name):
      for block in read():
        starts.append(spool.tell() - begin)
        _write(spool, block, spec)
    size = spool.tell() - begin
    parts.append(Part(name, size, read_from(begin, size), tuple(starts) if documents else (0,)))
  return parts


def _write(spool, block, spec):
  try:
    spool.write(block)
    spool.flush()
  except OSError as error:
    raise UserError(f'TMPDIR={tempfile.gettempdir()}: expected room to unpack {spec} in ({error})') from error


def _tfds_parts(spec, data_dir, text_feature):
  """tfds:NAME -> Parts, {split: (start, stop)} of the splits that the data set has itself."""
  builder = _tfds_builder(spec, data_dir)
  available = sorted(builder.info.splits)
  names = {split: next((n for n in names if n in available), None) for split, names in SPLITS.items()}
  if names['train'] is None and len(available) == 1:
    names = {'train': available[0]}
  if names['train'] is None:
    raise UserError(f'--corpus={spec}: expected a data set with a train split, found '
                    f'{", ".join(available) or "none"}')
  feature = _tfds_feature(spec, builder.info.features, text_feature)
  names = {split: name for split, name in names.items() if name}
  parts = _spooled(spec, [(f'{spec} {name}', lambda name=name: _tfds_blocks(builder, name, feature))
                          for name in names.values()], documents=True)
  ends = [0, *itertools.accumulate(part.size for part in parts)]
  ranges = {split: (ends[i], ends[i + 1]) for i, split in enumerate(names) if parts[i].size or split == 'train'}
  return parts, ranges


def _tfds_builder(spec, data_dir):
  """A builder whose data lie ready, downloaded and prepared if they did not."""
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UserError(f"--corpus={spec}: expected tensorflow-datasets to be installed; pip install -e '.[tfds]'"
                    ) from error
  name = spec.removeprefix('tfds:')
  where = f'--data_dir={data_dir}' if data_dir else 'the default data_dir of TensorFlow Datasets'
  try:
    builder = tfds.builder(name, data_dir=os.path.expanduser(data_dir) or None, try_gcs=False)
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(f'--corpus={spec}: expected the name of a data set, but TensorFlow Datasets has none such, nor '
                    f'has {where}') from error
  except Exception as error:  # whatever the code of a data set raises
    raise UserError(f'--corpus={spec}: cannot be opened ({_first_line(error)})') from error
  if not builder.is_prepared():
    print(f'charlm: downloading {spec} to {builder.data_dir}', file=sys.stderr)
    try:
      with contextlib.redirect_stdout(sys.stderr):  # standard output is for figures
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # network, disk, or the code of a data set
      raise UserError(f'--corpus={spec}: is not in {where}, and cannot be downloaded '
                      f'({_first_line(error)})') from error
  return builder


def _first_line(error):
  lines = str(error).strip().splitlines()
  return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _tfds_feature(spec, features, text_feature):
  """The name of the feature that holds the text."""
  import tensorflow_datasets as tfds
  names = [name for name, feature in sorted(features.items()) if isinstance(feature, tfds.features.Text)
           or (type(feature) in (tfds.features.Tensor, tfds.features.Scalar) and feature.shape == ()
               and feature.tf_dtype.name == 'string')]
  if text_feature:
    if text_feature not in names:
      raise UserError(f'--text_feature={text_feature}: expected one of {", ".join(names) or "none"}, the text '
                      f'features of {spec}')
    return text_feature
  if len(names) == 1 or 'text' in names:
    return 'text' if 'text' in names else names[0]
  if not names:
    raise UserError(f'--corpus={spec}: expected a data set with a feature of text, found {", ".join(sorted(features))}')
  raise UserError(f'--corpus={spec}: expected --text_feature to choose one of {", ".join(names)}')


def _tfds_blocks(builder, split, feature):
  """Iterator over the examples, each with a newline behind it."""
  import tensorflow as tf
  import tensorflow_datasets as tfds
  try:
    examples = builder.as_dataset(
        split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding({feature: True}),
        read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1))
    for batch in examples.batch(64).map(lambda row: row[feature] + '\n').as_numpy_iterator():
      yield from batch.tolist()
  except tf.errors.OpError as error:
    raise EOFError(_first_line(error)) from error
