"""--corpus=tokens:DIR is what charlm-prepare made, here or at an address, or it is refused in one line."""
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from corpora import one_line
from data_pipeline import streams
from data_pipeline.manifest import Manifest
from data_pipeline.prepare import open_source, tokenize
from data_pipeline.rows import training_rows
from data_pipeline.tokenizers.byte import ByteTokenizer
from flags.data import DataConfig
from flags.errors import RunError, UserError
from prepared import prepared, set_sizes

TEXT = 'It was the best of times, ä.\n\nIt was the worst of times.\n' * 50


@pytest.fixture
def tokens(tmp_path, monkeypatch):
  """Prepares a text with some flags -> the folder."""
  def make(**flags):
    set_sizes(monkeypatch, piece=700)
    (tmp_path / 'text').write_text(TEXT)
    prepared(tmp_path / 'text', tmp_path / 'tokens', **flags)
    return tmp_path / 'tokens'

  return make


def read(folder, of_model=None, **flags):
  return tokenize(open_source(DataConfig(corpus=f'tokens:{folder}', **flags)), of_model, progress=False)


def refused(folder, *rest, kind=UserError, **flags):
  with pytest.raises(kind) as error:
    read(folder, *rest, **flags)
  message = one_line(error)
  assert f'--corpus=tokens:{folder}' in message
  return message


def test_what_the_manifest_decides(tokens):
  flags = {'tokenizer': 'sentencepiece', 'vocab_size': 300, 'valid_fraction': 0.2, 'on_invalid': 'replace'}
  folder = tokens(document_reset=True, document_separator='\n\n', **flags)
  source = open_source(DataConfig(corpus=f'tokens:{folder}'))
  assert source.decided == {**flags, 'test_fraction': 0.0} and 'shards, ' in source.account
  source = open_source(DataConfig(corpus=f'tokens:{folder}', document_reset=True, **flags))
  assert source.decided == {**flags, 'test_fraction': 0.0, 'document_reset': True, 'document_separator': '\n\n'}
  assert read(folder)[1]['train'].num_starts == 0 < read(folder, document_reset=True)[1]['train'].num_starts
  assert list(read(folder)[1]) == ['train', 'valid']


@pytest.mark.parametrize('flags, expected', [
  ({'tokenizer': 'char'}, '--tokenizer=char'), ({'valid_fraction': 0.5}, '--valid_fraction=0.5'),
  ({'test_fraction': 0.5}, '--test_fraction=0.5'), ({'document_reset': True}, 'has no starts of documents')])
def test_other_flags_than_it_was_made_with_are_refused(tokens, flags, expected):
  assert expected in refused(tokens(), **flags)


def test_no_other_host_reads_them(tokens):
  """As the workers of a TPU would that is not of this machine."""
  folder = tokens()
  with pytest.raises(UserError) as error:
    read(folder)[1]['train'].share()
  assert f'--corpus=tokens:{folder}' in one_line(error) and '--tpu=local' in one_line(error)


def test_the_tokenizer_of_another_model_is_refused(tokens):
  folder = tokens(tokenizer='char')
  assert 'its tokens are not those of the model' in refused(folder, ByteTokenizer())
  own = read(folder)[0]
  assert read(folder, own)[0] is own


def test_a_folder_that_is_no_tokens(tmp_path):
  assert 'has no tokens.json' in refused(tmp_path) and 'has no tokens.json' in refused(tmp_path / 'none')
  (tmp_path / 'tokens.json').mkdir()
  assert 'tokens.json cannot be read' in refused(tmp_path)


@pytest.mark.parametrize('damage', [
  b'', b'{', b'[]', b'{}', b'[' * 100_000, b'\xff', b'{"digest": 1, "format_version": 1}', b'null'])
def test_a_manifest_that_is_something_else(tokens, damage):
  folder = tokens()
  (folder / 'tokens.json').write_bytes(damage)
  assert 'tokens.json ' in refused(folder)


def test_a_manifest_that_was_changed(tokens):
  folder = tokens()
  facts = json.loads((folder / 'tokens.json').read_text())
  facts['splits']['train']['num_bytes'] += 1
  (folder / 'tokens.json').write_text(json.dumps(facts))
  assert 'is damaged' in refused(folder)
  facts['format_version'] = 2
  (folder / 'tokens.json').write_text(json.dumps(facts))
  assert 'has the format 2; expected 1' in refused(folder)


def test_shards_that_are_missing_or_cut(tokens):
  folder = tokens()
  path = folder / 'train-00001.tokens'
  data = path.read_bytes()
  path.write_bytes(data[:-1])
  assert f'train-00001.tokens is damaged: it has {len(data) - 1:,} bytes; expected {len(data):,}' in refused(folder)
  path.unlink()
  assert 'train-00001.tokens cannot be read (No such file' in refused(folder)


def test_another_tokenizer_in_its_place(tokens, tmp_path):
  folder = tokens(tokenizer='char')
  (tmp_path / 'other').write_text('other')
  prepared(tmp_path / 'other', tmp_path / 'others', tokenizer='char', valid_fraction=0.0)
  shutil.copy(tmp_path / 'others' / 'tokenizer.json', folder)
  assert 'tokenizer.json is not the tokenizer' in refused(folder)
  (folder / 'tokenizer.json').write_text('{')
  assert 'expected a saved tokenizer' in refused(folder)
  (folder / 'tokenizer.json').unlink()
  assert 'expected a saved tokenizer' in refused(folder)


def test_an_address_is_read_as_a_folder_is(tokens, monkeypatch):
  set_sizes(monkeypatch, record=64)
  folder = tokens(tokenizer='sentencepiece', vocab_size=300, document_reset=True, document_separator='\n\n')
  address = f'ram://{folder}'.replace('ram:///', 'ram://')
  copy(folder, address)
  (tokenizer, here), (other, there) = read(folder, document_reset=True), read(address, document_reset=True)
  assert tokenizer.fingerprint == other.fingerprint
  for split in here:
    rows = training_rows(here[split].num_tokens, 7)
    made = [streams.training_stream(streams.mapped(files[split]), rows, length=5, stride=5, offset=3,
                                    starts=streams.mapped_starts(files[split])).take(20) for files in (here, there)]
    for one, same in itertools.zip_longest(*made):
      for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_address_that_breaks_off(tokens, monkeypatch):
  set_sizes(monkeypatch, record=64)
  folder = tokens()
  address = f'ram://broken{folder}'
  assert 'has no tokens.json' in refused(address)
  copy(folder, address)
  split = read(address)[1]['train']
  where = np.arange(split.num_tokens)[None]
  np.testing.assert_array_equal(split.reader.tokens(where)[0], read(folder)[1]['train'].read())
  tf.io.gfile.remove(f'{address}/train-00001.tokens')  # ram:// writes into what is there
  with tf.io.gfile.GFile(f'{address}/train-00001.tokens', 'wb') as file:
    file.write(b'short')
  with pytest.raises(RunError, match=r'train-00001.tokens: is damaged'):
    read(address)[1]['train'].reader.tokens(where)
  tf.io.gfile.remove(f'{address}/train-00001.tokens')
  with pytest.raises(RunError, match=r'train-00001.tokens: these tokens cannot be read any more \(no such file\)'):
    read(address)[1]['train'].reader.tokens(where)
  tf.io.gfile.remove(f'{address}/tokenizer.json')
  assert 'expected a saved tokenizer' in refused(address)


def copy(folder, address):
  for name in os.listdir(folder):
    with tf.io.gfile.GFile(f'{address}/{name}', 'wb') as file:
      file.write((folder / name).read_bytes())


def test_addresses_that_are_not_read():
  with pytest.raises(UserError) as error:
    DataConfig(corpus='tokens:s3://bucket/my tokens')
  assert one_line(error) == (
    '--corpus=tokens:s3://bucket/my tokens: s3:// is not supported; expected a path on this machine or gs:// or '
    "ram://; copy it here first: aws s3 cp --recursive 's3://bucket/my tokens' FOLDER")


def test_a_home_folder_in_the_name(tokens, monkeypatch):
  folder = tokens()
  monkeypatch.setenv('HOME', str(folder.parent))
  assert DataConfig(corpus='tokens:~/tokens').corpus == f'tokens:{folder}'
  assert read('~/tokens')[1]['train'].num_tokens


def test_a_manifest_is_written_as_it_is_read(tokens):
  folder = tokens(document_reset=True)
  text = (folder / 'tokens.json').read_bytes()
  assert Manifest.from_json(str(folder), text).to_json() == text
