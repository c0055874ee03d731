"""A data set's own splits are kept, its examples are documents, and mistakes are one line."""
import itertools
import sys

import pytest

import data_sets
from corpora import one_line, read
from data_pipeline.corpus.spec import open_corpus
from flags.errors import UserError


def open_tiny_tales(folder, **options):
  splits = open_corpus('tfds:tiny_tales', data_dir=str(folder), **options)
  return {split: read(text).decode() for split, text in splits.items()}


def lines(texts, feature='text'):
  return ''.join(sorted(f'{feature}: {text}\n' for text in texts))


def test_data_set_keeps_its_own_splits(tmp_path):
  tales = {'train': [f'ü{i}\n{i}' for i in range(100)], 'validation': ['v1', 'v2'], 'test': ['t'], 'more': ['m']}
  data_sets.make(tmp_path, tales)
  splits = open_tiny_tales(tmp_path)
  assert list(splits) == ['train', 'valid', 'test']
  for split, name in (('train', 'train'), ('valid', 'validation'), ('test', 'test')):
    assert sorted(splits[split]) == sorted(lines(tales[name]))
    for text in tales[name]:
      assert f'text: {text}\n' in splits[split]
  assert open_tiny_tales(tmp_path) == splits


def test_examples_of_a_data_set_are_documents(tmp_path):
  tales = ['one', 'two\nlines', '', 'four'] * 30
  data_sets.make(tmp_path, {'train': tales})
  text = open_corpus('tfds:tiny_tales', data_dir=str(tmp_path), valid_fraction=0.0)['train']
  starts = [0, *text.document_starts().tolist(), text.num_bytes]
  whole = read(text)
  documents = [whole[a:b].decode() for a, b in itertools.pairwise(starts)]
  assert sorted(documents) == sorted(f'text: {tale}\n' for tale in tales)


def test_data_set_is_cut_for_the_splits_that_it_lacks(tmp_path):
  data_sets.make(tmp_path, {'train': [f'ü{i}' for i in range(100)], 'test': ['t']}, ['text', 'title'])
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
  data_sets.make(tmp_path, {'poems': ['one', 'two']}, ['poem', 'poet'])
  with pytest.raises(UserError, match='expected --text_feature to choose one of poem, poet'):
    open_tiny_tales(tmp_path)
  splits = open_tiny_tales(tmp_path, text_feature='poem', valid_fraction=0.0)
  assert sorted(splits['train'].split('\n')) == ['', 'poem: one', 'poem: two']


def test_data_set_without_train_or_without_text(tmp_path):
  data_sets.make(tmp_path, {'left': ['one'], 'right': ['two']}, [])
  with pytest.raises(UserError, match='expected a data set with a train split, found left, right'):
    open_tiny_tales(tmp_path)
  data_sets.make(tmp_path / 'b', {'train': ['one']}, [])
  with pytest.raises(UserError, match='expected a data set with a feature of text, found label'):
    open_tiny_tales(tmp_path / 'b')


@pytest.mark.parametrize('name', ['tfds:no_such_data_set', 'tfds:no_such/config', 'tfds:', 'tfds:a b'])
def test_data_set_that_does_not_exist(tmp_path, name):
  pytest.importorskip('tensorflow_datasets')
  with pytest.raises(UserError) as error:
    open_corpus(name, data_dir=str(tmp_path))
  assert one_line(error).startswith(f'--corpus={name}: ')


def test_data_set_that_cannot_be_downloaded(tmp_path, monkeypatch, capsys):
  tfds = pytest.importorskip('tensorflow_datasets')

  def fail(self, **_):
    print('Downloading')
    raise ConnectionError('no route to host\nand more')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(UserError, match=r'cannot be downloaded .ConnectionError: no route to host.$') as error:
    open_corpus('tfds:imdb_reviews', data_dir=str(tmp_path))
  one_line(error)
  assert capsys.readouterr().out == ''


def test_without_tensorflow_datasets(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(UserError, match=r'\.\[tfds\]'):
    open_corpus('tfds:imdb_reviews')
