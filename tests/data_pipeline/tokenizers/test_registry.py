"""Hard text goes into every tokenizer and comes out, in Python and in a graph alike, wherever blocks are cut."""
import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.tokenizers import sentencepiece
from data_pipeline.tokenizers.base import InvalidText, token_dtype
from data_pipeline.tokenizers.registry import TOKENIZERS, load_tokenizer, train_tokenizer
from flags.data import DataConfig
from flags.errors import UserError
from hard_text import HARD, INVALID, KINDS, TRAINING, graph_ids, random_texts, trained


@pytest.fixture(params=KINDS)
def tokenizer(request):
  return trained(request.param)


def test_the_flag_offers_every_tokenizer():
  flag, = (field for field in dataclasses.fields(DataConfig) if field.name == 'tokenizer')
  assert flag.metadata['choices'] == KINDS == [tokenizer.kind for tokenizer in TOKENIZERS.values()]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', HARD)
def test_round_trip(kind, name):
  text = HARD[name].encode()
  tokenizer = trained(kind, everything=kind == 'char')
  ids = tokenizer.encode(text)
  assert ids.dtype == np.int32 and ids.ndim == 1
  assert tokenizer.decode(ids) == text
  np.testing.assert_array_equal(tokenizer.encode(HARD[name]), ids)


@pytest.mark.parametrize('kind', KINDS)
def test_round_trip_of_random_text(kind):
  tokenizer = trained(kind, everything=kind == 'char')
  for text in random_texts():
    assert tokenizer.decode(tokenizer.encode(text)).decode() == text


@pytest.mark.parametrize('texts', [[*HARD.values()], random_texts(), [''], ['', ''], []])
def test_graph_agrees_with_python(tokenizer, texts):
  texts = [text.encode() for text in texts]
  expected = [tokenizer.encode(text).tolist() for text in texts]
  assert graph_ids(tokenizer, texts) == expected
  decoded = tokenizer.decode_tf(tf.ragged.constant(expected, tf.int32, ragged_rank=1)).numpy().tolist()
  assert decoded == [tokenizer.decode(ids) for ids in expected]


def test_graph_decodes_a_dense_batch(tokenizer):
  ids = np.random.default_rng(0).integers(0, tokenizer.vocab_size, [3, 50])
  decode = tf.function(tokenizer.decode_tf, input_signature=[tf.TensorSpec([None, None], tf.int32)])
  assert decode(ids.astype(np.int32)).numpy().tolist() == [tokenizer.decode(row) for row in ids]
  assert decode(np.zeros([2, 0], np.int32)).numpy().tolist() == [b'', b'']


@pytest.mark.parametrize('kind', ['char', 'sentencepiece'])
def test_graph_replaces_invalid_bytes_as_python_does(kind):
  tokenizer = trained(kind)
  assert graph_ids(tokenizer, INVALID) == [tokenizer.encode(text, 'replace').tolist() for text in INVALID]


@pytest.mark.parametrize('size', [1, 2, 3, 17, 1000])
@pytest.mark.parametrize('longest', [1 << 16, 5])
def test_blocks_may_be_cut_anywhere(tokenizer, size, longest, monkeypatch):
  if tokenizer.kind == 'sentencepiece' and longest == 5:
    words = tokenizer._words.pattern.replace(str(sentencepiece.LONGEST_WORD), '5')
    monkeypatch.setattr(tokenizer, '_words', re.compile(words))
    monkeypatch.setattr(sentencepiece, 'KNOWN_WORDS', 3)
  text = '\n '.join([*HARD.values(), *random_texts(), TRAINING]).encode() + b'the last word'
  blocks = [text[i:i + size] for i in range(0, len(text), size)]
  arrays = list(tokenizer.encode_blocks(blocks))
  assert {a.dtype for a in arrays} == {token_dtype(tokenizer.vocab_size)}
  ids = np.concatenate(arrays)
  np.testing.assert_array_equal(ids, tokenizer.encode(text))
  if tokenizer.kind != 'char':
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize('kind', ['char', 'sentencepiece'])
@pytest.mark.parametrize('data, place', [
    (b'\xff', 0), (b'abc\xffdef', 3), ('äöü'.encode() + b'\xc3', 6), (b'ab\xed\xa0\x80', 2), (b'ok \xe2\x82 ok', 3)])
@pytest.mark.parametrize('size', [1, 2, 100])
def test_invalid_bytes(kind, data, place, size):
  tokenizer = trained(kind)
  blocks = [data[i:i + size] for i in range(0, len(data), size)]
  for read in (tokenizer.encode_blocks, lambda b: [train_tokenizer(kind, b, 300)]):
    with pytest.raises(InvalidText, match=f'byte 0x{data[place]:02x} at offset {place} ') as error:
      list(read(blocks))
    assert (error.value.offset, error.value.byte) == (place, data[place])
  ids = np.concatenate(list(tokenizer.encode_blocks(blocks, 'replace')))
  np.testing.assert_array_equal(ids, tokenizer.encode(data.decode(errors='replace')))


def test_text_with_bytes_from_the_command_line():
  text = b'a\xffb'.decode('utf-8', 'surrogateescape')
  assert trained('byte').encode(text).tolist() == [97, 255, 98]
  with pytest.raises(InvalidText):
    trained('char').encode(text)


def test_save_and_load(tokenizer, tmp_path):
  tokenizer.save(tmp_path / 'a' / 'b')
  files = {'tokenizer.json'} | ({'tokenizer.model'} if tokenizer.kind == 'sentencepiece' else set())
  assert {path.name for path in (tmp_path / 'a' / 'b').iterdir()} == files
  loaded = load_tokenizer(tmp_path / 'a' / 'b')
  assert (loaded.kind, loaded.pieces, loaded.fingerprint) == (tokenizer.kind, tokenizer.pieces, tokenizer.fingerprint)
  text = ''.join(HARD.values())
  np.testing.assert_array_equal(loaded.encode(text), tokenizer.encode(text))


def test_fingerprint_follows_the_mapping():
  prints = {trained(kind).fingerprint for kind in KINDS}
  prints |= {train_tokenizer('char', [b'ab']).fingerprint, train_tokenizer('char', [b'abc']).fingerprint}
  prints |= {train_tokenizer('sentencepiece', [TRAINING.encode()], 331).fingerprint}
  assert len(prints) == 6
  assert train_tokenizer('char', [b'ba', b'a']).fingerprint == train_tokenizer('char', [b'ab']).fingerprint


@pytest.mark.parametrize('json', [None, '', '{', '[]', '{}', '{"kind": "words"}', '{"kind": "char"}',
                                  '{"kind": "char", "characters": 3}', '{"kind": "sentencepiece"}', b'\xff',
                                  '[' * 100_000, '{"kind": "char", "characters": "\\ud800"}', '{"kind": ["char"]}',
                                  '{"kind": "a\\nb"}', '{"kind": "char", "characters": "ab", "fingerprint": "x"}'])
def test_damaged_tokenizer(tmp_path, json):
  if json is not None:
    (tmp_path / 'tokenizer.json').write_bytes(json if isinstance(json, bytes) else json.encode())
  with pytest.raises(UserError, match='tokenizer') as error:
    load_tokenizer(tmp_path)
  assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer.model'])
def test_a_tokenizer_of_other_pieces_is_damaged(tmp_path, name):
  """Each of its files can be read, but ids mean something else."""
  tokenizer = trained('char' if name == 'tokenizer.json' else 'sentencepiece')
  tokenizer.save(tmp_path)
  assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
  path = tmp_path / name
  path.write_bytes(path.read_bytes().replace(b'q', b'z', 1))
  with pytest.raises(UserError, match=r'tokenizer.json: .*not those that were saved'):
    load_tokenizer(tmp_path)


def test_a_tokenizer_without_a_fingerprint_is_read(tmp_path):
  """As it was written before there were any."""
  (tmp_path / 'tokenizer.json').write_text('{"kind": "char", "characters": "ab"}')
  assert load_tokenizer(tmp_path).characters == 'ab'


def test_exported_module_encodes_and_decodes(tokenizer, tmp_path):
  module = tf.Module()
  module.tokenizer = tokenizer.trackable
  module.encode = tf.function(lambda text: tokenizer.encode_tf(text).to_tensor(-1),
                              input_signature=[tf.TensorSpec([None], tf.string)])
  tf.saved_model.save(module, str(tmp_path))
  texts = [HARD['sentence'], HARD['marks'], '']
  expected = [tokenizer.encode(text).tolist() for text in texts]
  rows = tf.saved_model.load(str(tmp_path)).encode(tf.constant(texts)).numpy().tolist()
  assert [[i for i in row if i >= 0] for row in rows] == expected


def test_import_is_light():
  code = ("import sys, data_pipeline.tokenizers.registry; "
          "sys.exit(bool({'tensorflow_text', 'sentencepiece'} & set(sys.modules)))")
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
