"""Files of every kind are read whole and in order; mistakes are one line."""
import bz2
import gzip
import lzma
import os
import sys

import pytest
import zstandard

from corpora import TEXT, one_line, read, read_whole
from data_pipeline.corpus.kinds import SUFFIXES
from data_pipeline.corpus.spec import open_corpus
from flags.errors import UserError

PACKERS = {'': bytes, '.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress,
           '.zst': zstandard.ZstdCompressor().compress, '.GZ': gzip.compress}


@pytest.mark.parametrize('suffix', PACKERS)
def test_reads_a_file_packed_or_not(tmp_path, suffix):
  path = tmp_path / f'a.txt{suffix}'
  path.write_bytes(PACKERS[suffix](TEXT))
  assert read_whole(path) == TEXT
  splits = open_corpus(str(path), valid_fraction=0.25, test_fraction=0.25)
  assert b''.join(map(read, splits.values())) == TEXT
  assert read(splits['valid']) == read(splits['valid'])  # a text can be read twice


def test_reads_several_frames_of_zstd(tmp_path):
  (tmp_path / 'a.zst').write_bytes(PACKERS['.zst'](b'one ') + PACKERS['.zst'](b'two'))
  assert read_whole(tmp_path / 'a.zst') == b'one two'


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('damage', ['cut', 'flipped'])
def test_damaged_packed_file(tmp_path, suffix, damage):
  packed = PACKERS[suffix](b''.join(b'%d ' % (i * i) for i in range(2000)))
  middle = len(packed) // 2
  bad = {'cut': packed[:middle], 'flipped': b'\xff' * 40 + packed[40:]}[damage]
  path = tmp_path / f'a.txt{suffix}'
  path.write_bytes(bad)
  with pytest.raises(UserError) as error:
    open_corpus(str(path))
  assert f'--corpus={path}' in one_line(error) and 'damaged' in str(error.value)


def test_folder_is_read_sorted_without_hidden_and_binary_files(tmp_path):
  (tmp_path / 'sub' / 'deep').mkdir(parents=True)
  (tmp_path / '.hidden').mkdir()
  for name, content in {'b.txt': b'B', 'a.txt': b'A\n', 'sub/deep/c': b'C', 'empty': b'', 'z.bin': b'PK\0\1',
                        '.secret': b'S', '.hidden/d': b'D', 'sub/e.gz': gzip.compress(b'E'),
                        'sub/f.gz': gzip.compress(b'\0\0')}.items():
    (tmp_path / name).write_bytes(content)
  os.symlink(tmp_path / 'nowhere', tmp_path / 'dangling')
  os.mkfifo(tmp_path / 'pipe')
  assert read_whole(tmp_path) == b'A\nB\nC\nE'
  assert read_whole(tmp_path / '*.txt') == b'A\nB'
  assert read_whole(tmp_path / '**' / '[ce]*') == read_whole(tmp_path / 'sub')


def test_a_folder_is_read_without_the_workdirs_in_it(tmp_path):
  (tmp_path / 'run' / 'samples').mkdir(parents=True)
  (tmp_path / 'a.txt').write_bytes(b'A')
  for name in 'config.json', 'tokenizer.json', 'samples/b.txt':
    (tmp_path / 'run' / name).write_bytes(b'of a run')
  for place in tmp_path, tmp_path / '**', tmp_path / '**' / '*.txt':
    assert read_whole(place) == b'A'
  for place in tmp_path / 'run' / 'samples', tmp_path / 'run' / 'sam*' / '*':
    assert read_whole(place) == b'of a run'
  (tmp_path / 'run' / 'tokenizer.json').unlink()
  assert read_whole(tmp_path) == b'A\nof a run\nof a run'


def test_name_with_magic_characters_is_a_file_first(tmp_path):
  (tmp_path / 'a[1].txt').write_bytes(b'one')
  assert read_whole(tmp_path / 'a[1].txt') == b'one'



def test_topics_are_documents():
  text = open_corpus('pydoc', valid_fraction=0.0)['train']
  whole, starts = read(text), text.document_starts().tolist()
  assert len(starts) > 50 and all(whole[s - 1:s] == b'\n' for s in starts)


def test_what_python_carries():
  pydoc = read_whole('pydoc')
  assert len(pydoc) > 300_000 and 'The "assert" statement' in pydoc.decode()
  stdlib = open_corpus('stdlib', valid_fraction=0.0)['train']
  assert stdlib.num_bytes > 5_000_000
  for block in stdlib.blocks():
    assert b'\0' not in block


def test_python_without_pydoc_data(monkeypatch):
  monkeypatch.setitem(sys.modules, 'pydoc_data.topics', None)
  with pytest.raises(UserError, match='--corpus=pydoc: expected a Python with') as error:
    open_corpus('pydoc')
  one_line(error)


@pytest.mark.parametrize('name, words', {
    '': 'no such file', 'missing': 'no such file', '*.nothing': 'no match', 'empty.txt': '0 bytes',
    'empty.gz': '0 bytes', 'emptydir': 'no text', 'binary': 'no text', 'pipe': 'regular file'}.items())
def test_mistakes_are_one_line(tmp_path, name, words):
  (tmp_path / 'empty.txt').touch()
  (tmp_path / 'empty.gz').write_bytes(gzip.compress(b''))
  (tmp_path / 'emptydir').mkdir()
  (tmp_path / 'binary').mkdir()
  (tmp_path / 'binary' / 'a').write_bytes(b'\0\1')
  os.mkfifo(tmp_path / 'pipe')
  spec = str(tmp_path / name) if name else ''
  with pytest.raises(UserError, match=words) as error:
    open_corpus(spec)
  assert one_line(error).replace("'", '').startswith(f'--corpus={spec}')


@pytest.mark.skipif(os.geteuid() == 0, reason='the superuser may read anything')
@pytest.mark.parametrize('name', ['a', ''])
def test_unreadable(tmp_path, name):
  (tmp_path / 'a').write_bytes(b'one')
  (tmp_path / name).chmod(0)
  with pytest.raises(UserError, match='cannot be read'):
    open_corpus(str(tmp_path))
  (tmp_path / name).chmod(0o700)
