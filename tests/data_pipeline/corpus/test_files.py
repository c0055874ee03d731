"""Corpora of every kind are read whole, in order, and cut where they should be; mistakes are one line."""
import bz2
import gzip
import itertools
import lzma
import os
import subprocess
import sys

import pytest
import zstandard

from data_pipeline.corpus import text as corpus
from flags.errors import UserError

PACKERS = {'': bytes, '.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress,
           '.zst': zstandard.ZstdCompressor().compress, '.GZ': gzip.compress}
TEXT = 'Grüße, 世界! 🎉\r\n'.encode() * 1000


def read(text):
  return b''.join(text.blocks())


def whole(spec, **options):
  """The text of a corpus that is not cut."""
  splits = corpus.open_corpus(str(spec), **{'valid_fraction': 0.0, **options})
  assert list(splits) == ['train']
  return read(splits['train'])


def one_line(error):
  message = str(error.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize('suffix', PACKERS)
def test_reads_a_file_packed_or_not(tmp_path, suffix):
  path = tmp_path / f'a.txt{suffix}'
  path.write_bytes(PACKERS[suffix](TEXT))
  assert whole(path) == TEXT
  splits = corpus.open_corpus(str(path), valid_fraction=0.25, test_fraction=0.25)
  assert b''.join(map(read, splits.values())) == TEXT
  assert read(splits['valid']) == read(splits['valid'])  # a text can be read twice


def test_reads_several_frames_of_zstd(tmp_path):
  (tmp_path / 'a.zst').write_bytes(PACKERS['.zst'](b'one ') + PACKERS['.zst'](b'two'))
  assert whole(tmp_path / 'a.zst') == b'one two'


@pytest.mark.parametrize('suffix', ['.gz', '.bz2', '.xz', '.zst'])
@pytest.mark.parametrize('damage', ['cut', 'not packed', 'flipped'])
def test_damaged_packed_file(tmp_path, suffix, damage):
  packed = PACKERS[suffix](os.urandom(5000))
  middle = len(packed) // 2
  bad = {'cut': packed[:middle], 'not packed': TEXT, 'flipped': b'\xff' * 40 + packed[40:]}[damage]
  path = tmp_path / f'a.txt{suffix}'
  path.write_bytes(bad)
  with pytest.raises(UserError) as error:
    corpus.open_corpus(str(path))
  assert f'--corpus={path}' in one_line(error) and 'damaged' in str(error.value)


@pytest.mark.parametrize('block', [1, 7, 4096])
def test_blocks_have_one_size_but_the_last(tmp_path, monkeypatch, block):
  monkeypatch.setattr(corpus, 'BLOCK', block)
  for name in 'abc':
    (tmp_path / name).write_bytes(TEXT[:100])
  text = corpus.open_corpus(str(tmp_path), valid_fraction=0.1)['train']
  sizes = [len(b) for b in text.blocks()]
  assert set(sizes[:-1]) <= {block} and 0 < sizes[-1] <= block
  assert sum(sizes) == text.num_bytes


@pytest.mark.parametrize('size', [1, 2, 3, 10, 1001])
@pytest.mark.parametrize('valid, test', [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.5, 0.4), (0.98, 0.01)])
def test_splits_are_contiguous_and_cut_between_characters(tmp_path, size, valid, test):
  text = '€ä🎉a'.encode() * 300
  text = text[:size].decode(errors='ignore').encode() or b'a'
  (tmp_path / 'a').write_bytes(text)
  splits = corpus.open_corpus(str(tmp_path / 'a'), valid_fraction=valid, test_fraction=test)
  assert b''.join(map(read, splits.values())) == text
  assert list(splits) == [s for s in ('train', 'valid', 'test') if s in splits]
  assert splits['train'].num_bytes > 0
  for split, share in (('valid', valid), ('test', test)):
    part = read(splits[split]) if split in splits else b''
    part.decode()
    assert abs(len(part) - share * len(text)) <= 4


def test_cut_of_bytes_that_are_no_characters(tmp_path):
  (tmp_path / 'a').write_bytes(b'\x80' * 100)
  splits = corpus.open_corpus(str(tmp_path / 'a'), valid_fraction=0.5)
  assert [t.num_bytes for t in splits.values()] == [53, 47]


def test_folder_is_read_sorted_without_hidden_and_binary_files(tmp_path):
  (tmp_path / 'sub' / 'deep').mkdir(parents=True)
  (tmp_path / '.hidden').mkdir()
  for name, content in {'b.txt': b'B', 'a.txt': b'A\n', 'sub/deep/c': b'C', 'empty': b'', 'z.bin': b'PK\0\1',
                        '.secret': b'S', '.hidden/d': b'D', 'sub/e.gz': gzip.compress(b'E'),
                        'sub/f.gz': gzip.compress(b'\0\0')}.items():
    (tmp_path / name).write_bytes(content)
  os.symlink(tmp_path / 'nowhere', tmp_path / 'dangling')
  os.mkfifo(tmp_path / 'pipe')
  assert whole(tmp_path) == b'A\nB\nC\nE'
  assert whole(tmp_path / '*.txt') == b'A\nB'
  assert whole(tmp_path / '**' / '[ce]*') == whole(tmp_path / 'sub')


def test_a_folder_is_read_without_the_workdirs_in_it(tmp_path):
  (tmp_path / 'run' / 'samples').mkdir(parents=True)
  (tmp_path / 'a.txt').write_bytes(b'A')
  for name in 'config.json', 'tokenizer.json', 'samples/b.txt':
    (tmp_path / 'run' / name).write_bytes(b'of a run')
  for place in tmp_path, tmp_path / '**', tmp_path / '**' / '*.txt':
    assert whole(place) == b'A'
  for place in tmp_path / 'run' / 'samples', tmp_path / 'run' / 'sam*' / '*':
    assert whole(place) == b'of a run'
  (tmp_path / 'run' / 'tokenizer.json').unlink()
  assert whole(tmp_path) == b'A\nof a run\nof a run'


def test_name_with_magic_characters_is_a_file_first(tmp_path):
  (tmp_path / 'a[1].txt').write_bytes(b'one')
  assert whole(tmp_path / 'a[1].txt') == b'one'


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'a').write_bytes(b'one')
  assert whole('~/a') == b'one'


def test_locate(tmp_path):
  for name, content in {'a': b'12345', 'b': b'1234\n', 'c': b'123'}.items():
    (tmp_path / name).write_bytes(content)
  text = corpus.open_corpus(str(tmp_path), valid_fraction=0.0)['train']
  places = [text.locate(i) for i in range(text.num_bytes + 1)]
  assert places == [(str(tmp_path / name), i) for name, size in (('a', 6), ('b', 5), ('c', 4)) for i in range(size)]
  assert text.slice(7, 9).locate(1) == (str(tmp_path / 'b'), 2)


@pytest.mark.parametrize('separator,starts', [
    ('', [4, 6, 12]), ('|', [2, 4, 6, 7, 8, 10, 12]), ('||', [4, 6, 8, 12]), ('b||', [4, 6, 12]), ('\n', [4, 6, 12])])
@pytest.mark.parametrize('block', [1, 3, 4096])
def test_documents_start_with_files_and_after_separators(tmp_path, monkeypatch, separator, starts, block):
  monkeypatch.setattr(corpus, 'BLOCK', block)
  for name, content in {'a': b'1|2', 'b': b'3\n', 'c.gz': gzip.compress(b'||a|x'), 'd': b'cc|'}.items():
    (tmp_path / name).write_bytes(content)
  text = corpus.open_corpus(str(tmp_path), valid_fraction=0.0)['train']
  assert read(text) == b'1|2\n3\n||a|x\ncc|'
  assert text.document_starts(separator.encode()).tolist() == starts
  rest = text.slice(5, 11)
  assert rest.document_starts(separator.encode()).tolist() == [s - 5 for s in starts if 5 < s < 11]


def test_topics_are_documents():
  text = corpus.open_corpus('pydoc', valid_fraction=0.0)['train']
  whole, starts = read(text), text.document_starts().tolist()
  assert len(starts) > 50 and all(whole[s - 1:s] == b'\n' for s in starts)


def test_what_python_carries():
  pydoc = whole('pydoc')
  assert len(pydoc) > 300_000 and 'The "assert" statement' in pydoc.decode()
  stdlib = corpus.open_corpus('stdlib', valid_fraction=0.0)['train']
  assert stdlib.num_bytes > 5_000_000
  for block in stdlib.blocks():
    assert b'\0' not in block


def test_python_without_pydoc_data(monkeypatch):
  monkeypatch.setitem(sys.modules, 'pydoc_data.topics', None)
  with pytest.raises(UserError, match='--corpus=pydoc: expected a Python with') as error:
    corpus.open_corpus('pydoc')
  one_line(error)


def test_fingerprint_follows_content_and_cuts_alone(tmp_path):
  (tmp_path / 'a.txt').write_bytes(TEXT)
  (tmp_path / 'b.txt.gz').write_bytes(gzip.compress(TEXT))
  (tmp_path / 'c.txt').write_bytes(TEXT[:-1] + b'?')

  def of(name, **options):
    return corpus.fingerprint(corpus.open_corpus(str(tmp_path / name), **options))

  assert of('a.txt') == of('b.txt.gz')
  others = [of('c.txt'), of('a.txt', valid_fraction=0.2), of('a.txt', valid_fraction=0.0),
            of('a.txt', valid_fraction=0.0, test_fraction=0.1)]
  assert len({of('a.txt'), *others}) == 5


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
    corpus.open_corpus(spec)
  assert one_line(error).replace("'", '').startswith(f'--corpus={spec}')


@pytest.mark.skipif(os.geteuid() == 0, reason='the superuser may read anything')
@pytest.mark.parametrize('name', ['a', ''])
def test_unreadable(tmp_path, name):
  (tmp_path / 'a').write_bytes(b'one')
  (tmp_path / name).chmod(0)
  with pytest.raises(UserError, match='cannot be read'):
    corpus.open_corpus(str(tmp_path))
  (tmp_path / name).chmod(0o700)


def test_file_that_fails_while_read(tmp_path, monkeypatch):
  (tmp_path / 'a').write_bytes(b'one')
  text = corpus.open_corpus(str(tmp_path / 'a'), valid_fraction=0.0)['train']
  (tmp_path / 'a').write_bytes(b'on')
  with pytest.raises(UserError, match='became shorter'):
    read(text)
  (tmp_path / 'a').unlink()
  with pytest.raises(UserError, match='cannot be read'):
    read(text)


def test_no_room_to_unpack(tmp_path, monkeypatch):
  (tmp_path / 'a.gz').write_bytes(gzip.compress(TEXT))
  with open('/dev/full', 'w+b', buffering=0) as full:
    monkeypatch.setattr(corpus.tempfile, 'TemporaryFile', lambda **_: full)
    with pytest.raises(UserError, match=r'TMPDIR=.*expected room') as error:
      corpus.open_corpus(str(tmp_path / 'a.gz'))
  one_line(error)


def test_plain_text_needs_no_tensorflow(tmp_path):
  code = ("import sys; import data_pipeline.prepare; from data_pipeline.corpus import text; text.open_corpus('pydoc'); "
          "sys.exit(bool({'tensorflow', 'tensorflow_datasets', 'sentencepiece'} & set(sys.modules)))")
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def prepare_data_set(folder, splits, features=('text',)):
  """A data set of TensorFlow Datasets on disk, with no code that is registered: found through data_dir alone."""
  tfds = pytest.importorskip('tensorflow_datasets')

  class TinyTales(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      texts = {feature: tfds.features.Text() for feature in features}
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(
          {**texts, 'label': tfds.features.ClassLabel(num_classes=2)}))

    def _split_generators(self, dl_manager):
      return {name: self._generate_examples(texts) for name, texts in splits.items()}

    def _generate_examples(self, texts):
      for i, text in enumerate(texts):
        yield i, {**{feature: f'{feature}: {text}' for feature in features}, 'label': 0}

  builder = TinyTales(data_dir=folder)
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      try_download_gcs=False, compute_stats=tfds.download.ComputeStatsMode.SKIP))


def open_tiny_tales(folder, **options):
  splits = corpus.open_corpus('tfds:tiny_tales', data_dir=str(folder), **options)
  return {split: read(text).decode() for split, text in splits.items()}


def lines(texts, feature='text'):
  return ''.join(sorted(f'{feature}: {text}\n' for text in texts))


def test_data_set_keeps_its_own_splits(tmp_path):
  tales = {'train': [f'ü{i}\n{i}' for i in range(100)], 'validation': ['v1', 'v2'], 'test': ['t'], 'more': ['m']}
  prepare_data_set(tmp_path, tales)
  splits = open_tiny_tales(tmp_path)
  assert list(splits) == ['train', 'valid', 'test']
  for split, name in (('train', 'train'), ('valid', 'validation'), ('test', 'test')):
    assert sorted(splits[split]) == sorted(lines(tales[name]))
    for text in tales[name]:
      assert f'text: {text}\n' in splits[split]
  assert open_tiny_tales(tmp_path) == splits


def test_examples_of_a_data_set_are_documents(tmp_path):
  tales = ['one', 'two\nlines', '', 'four'] * 30
  prepare_data_set(tmp_path, {'train': tales})
  text = corpus.open_corpus('tfds:tiny_tales', data_dir=str(tmp_path), valid_fraction=0.0)['train']
  starts = [0, *text.document_starts().tolist(), text.num_bytes]
  whole = read(text)
  documents = [whole[a:b].decode() for a, b in itertools.pairwise(starts)]
  assert sorted(documents) == sorted(f'text: {tale}\n' for tale in tales)


def test_data_set_is_cut_for_the_splits_that_it_lacks(tmp_path):
  prepare_data_set(tmp_path, {'train': [f'ü{i}' for i in range(100)], 'test': ['t']}, ['text', 'title'])
  both = open_tiny_tales(tmp_path, valid_fraction=0.0)
  assert list(both) == ['train', 'test']
  cut = open_tiny_tales(tmp_path, valid_fraction=0.25, test_fraction=0.5)
  assert cut['train'] + cut['valid'] == both['train'] and cut['test'] == both['test'] == 'text: t\n'
  assert abs(len(cut['valid'].encode()) - 0.25 * len(both['train'].encode())) <= 4
  assert 'title: ü7\n' in open_tiny_tales(tmp_path, text_feature='title')['train']
  with pytest.raises(UserError, match='--text_feature=label: expected one of text, title') as error:
    open_tiny_tales(tmp_path, text_feature='label')
  one_line(error)


def test_data_set_with_one_split_and_a_feature_to_choose(tmp_path):
  prepare_data_set(tmp_path, {'poems': ['one', 'two']}, ['poem', 'poet'])
  with pytest.raises(UserError, match='expected --text_feature to choose one of poem, poet'):
    open_tiny_tales(tmp_path)
  splits = open_tiny_tales(tmp_path, text_feature='poem', valid_fraction=0.0)
  assert sorted(splits['train'].split('\n')) == ['', 'poem: one', 'poem: two']


def test_data_set_without_train_or_without_text(tmp_path):
  prepare_data_set(tmp_path, {'left': ['one'], 'right': ['two']}, [])
  with pytest.raises(UserError, match='expected a data set with a train split, found left, right'):
    open_tiny_tales(tmp_path)
  prepare_data_set(tmp_path / 'b', {'train': ['one']}, [])
  with pytest.raises(UserError, match='expected a data set with a feature of text, found label'):
    open_tiny_tales(tmp_path / 'b')


@pytest.mark.parametrize('name', ['tfds:no_such_data_set', 'tfds:no_such/config', 'tfds:', 'tfds:a b'])
def test_data_set_that_does_not_exist(tmp_path, name):
  pytest.importorskip('tensorflow_datasets')
  with pytest.raises(UserError) as error:
    corpus.open_corpus(name, data_dir=str(tmp_path))
  assert one_line(error).startswith(f'--corpus={name}: ')


def test_data_set_that_cannot_be_downloaded(tmp_path, monkeypatch, capsys):
  tfds = pytest.importorskip('tensorflow_datasets')

  def fail(self, **_):
    print('Downloading')
    raise ConnectionError('no route to host\nand more')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(UserError, match=r'cannot be downloaded .ConnectionError: no route to host.$') as error:
    corpus.open_corpus('tfds:imdb_reviews', data_dir=str(tmp_path))
  one_line(error)
  assert capsys.readouterr().out == ''


def test_without_tensorflow_datasets(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(UserError, match=r'\.\[tfds\]'):
    corpus.open_corpus('tfds:imdb_reviews')
