"""Hard text goes in and comes out, in Python and in a graph alike, wherever blocks are cut."""
import functools
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.tokenizers import base as tokenizers
from data_pipeline.tokenizers.base import load_tokenizer, train_tokenizer
from flags.errors import UserError

KINDS = ['byte', 'char', 'sentencepiece']
HARD = {
    'empty': '', 'word': 'hello', 'sentence': 'The quick  brown fox.\n\n  Jumps over\tthe lazy dog. ',
    'line ends': '\r\n\r\n\n\r', 'nul': 'a\0b\0', 'bom': '\ufeffx\ufeff', 'mark': '\u2581',
    'marks': '\u2581\u2581a \u2581 b\u2581',
    'replacement': 'a\ufffdb', 'combining': 'e\u0301\u0327 n\u0303', 'spaces': '     ', 'newlines': '\n\n\n',
    'space newline': ' \n \n', 'emoji': '👩\u200d👩\u200d👧 🏳️\u200d🌈🎉', 'hangul': '\u1112\u1161\u11ab 한',
    'wide': '\u3000\xa0\u2003x', 'ligatures': 'ﬁ①Ⅷ™', 'right to left': 'שלום \u202eabc\u202c',
    'controls': '\x01\x7f\x1b[0m', 'last': '\U0010ffff\ud7ff\ue000', 'like pieces': '<unk><0x41> <s></s><pad>',
    'block': '\u2585\u2585 a\u2585', 'separators': '\u2028\u2029\x85\x0b\x0c', 'long word': 'x' * 5000}
INVALID = [b'\xff', b'a\xc3', b'\xe2\x82', b'\xf0\x9f\x91b', b'\xc0\x80', b'\xed\xa0\x80', b'\xf5\x80\x80\x80',
           b'\xe2\x82\xe2\x82', b'\x80\x80', b'\xf4\x90\x80\x80', b'\xe0\x80\x80', b'\xe2\x96', b' \xe2\x96\x81\xe2 ']
TRAINING = ('The quick brown fox jumps over the lazy dog; hello to the foxes and dogs.\n  Indented lines too.\n' * 3
            + 'Grüße an die Füchse, 世界你好.\t<0x41> <unk>\n\r\n' + 'over the fox \u2581 and \u2585 the dog\0\n')


def random_texts(count=60):
  """Strings of all planes, thick with spaces, newlines and marks."""
  draw = random.Random(0)
  ranges = [(0, 0x20), (0x20, 0x7f), (0x20, 0x7f), (0x7f, 0x250), (0x300, 0x370), (0x2000, 0x2070), (0x2580, 0x2586),
            (0x4e00, 0x9fff), (0xe000, 0x10000), (0x1f300, 0x1f700), (0x10000, 0x110000)]

  def character():
    return draw.choice('  \n\u2581 \r') if draw.random() < 0.3 else chr(draw.randrange(*draw.choice(ranges)))

  return [''.join(character() for _ in range(draw.randrange(100))) for _ in range(count)]


@functools.cache
def make(kind, everything=False):
  """A tokenizer; with `everything`, char has seen all the texts of this file."""
  text = TRAINING + (''.join([*HARD.values(), *random_texts()]) if everything else '')
  return train_tokenizer(kind, [text.encode()], 330)


@pytest.fixture(params=KINDS)
def tokenizer(request):
  return make(request.param)


def graph_ids(tokenizer, texts):
  """Ids from a compiled graph with an input of unknown length, as lists."""
  function = tf.function(tokenizer.encode_tf, input_signature=[tf.TensorSpec([None], tf.string)])
  ids = function(tf.constant(texts, tf.string, shape=[len(texts)]))
  assert ids.dtype == tf.int32 and ids.shape.rank == 2
  return ids.to_list()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', HARD)
def test_round_trip(kind, name):
  text = HARD[name].encode()
  tokenizer = make(kind, everything=kind == 'char')
  ids = tokenizer.encode(text)
  assert ids.dtype == np.int32 and ids.ndim == 1
  assert tokenizer.decode(ids) == text
  np.testing.assert_array_equal(tokenizer.encode(HARD[name]), ids)


@pytest.mark.parametrize('kind', KINDS)
def test_round_trip_of_random_text(kind):
  tokenizer = make(kind, everything=kind == 'char')
  for text in random_texts():
    assert tokenizer.decode(tokenizer.encode(text)).decode() == text


def test_bytes_of_any_kind_round_trip_as_bytes():
  data = bytes(range(256)) + np.random.default_rng(0).bytes(1000)
  assert make('byte').decode(make('byte').encode(data)) == data
  assert make('byte').decode_tf(make('byte').encode_tf([data])).numpy().tolist() == [data]


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
  tokenizer = make(kind)
  assert graph_ids(tokenizer, INVALID) == [tokenizer.encode(text, 'replace').tolist() for text in INVALID]


@pytest.mark.parametrize('size', [1, 2, 3, 17, 1000])
@pytest.mark.parametrize('longest', [1 << 16, 5])
def test_blocks_may_be_cut_anywhere(tokenizer, size, longest, monkeypatch):
  if tokenizer.kind == 'sentencepiece' and longest == 5:
    words = tokenizer._words.pattern.replace(str(tokenizers.LONGEST_WORD), '5')
    monkeypatch.setattr(tokenizer, '_words', re.compile(words))
    monkeypatch.setattr(tokenizers, 'KNOWN_WORDS', 3)
  text = '\n '.join([*HARD.values(), *random_texts(), TRAINING]).encode() + b'the last word'
  blocks = [text[i:i + size] for i in range(0, len(text), size)]
  arrays = list(tokenizer.encode_blocks(blocks))
  assert {a.dtype for a in arrays} == {tokenizers.token_dtype(tokenizer.vocab_size)}
  ids = np.concatenate(arrays)
  np.testing.assert_array_equal(ids, tokenizer.encode(text))
  if tokenizer.kind != 'char':
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize('kind', ['char', 'sentencepiece'])
@pytest.mark.parametrize('data, place', [
    (b'\xff', 0), (b'abc\xffdef', 3), ('äöü'.encode() + b'\xc3', 6), (b'ab\xed\xa0\x80', 2), (b'ok \xe2\x82 ok', 3)])
@pytest.mark.parametrize('size', [1, 2, 100])
def test_invalid_bytes(kind, data, place, size):
  tokenizer = make(kind)
  blocks = [data[i:i + size] for i in range(0, len(data), size)]
  for read in (tokenizer.encode_blocks, lambda b: [train_tokenizer(kind, b, 300)]):
    with pytest.raises(tokenizers.InvalidText, match=f'byte 0x{data[place]:02x} at offset {place} ') as error:
      list(read(blocks))
    assert (error.value.offset, error.value.byte) == (place, data[place])
  ids = np.concatenate(list(tokenizer.encode_blocks(blocks, 'replace')))
  np.testing.assert_array_equal(ids, tokenizer.encode(data.decode(errors='replace')))


def test_text_with_bytes_from_the_command_line():
  text = b'a\xffb'.decode('utf-8', 'surrogateescape')
  assert make('byte').encode(text).tolist() == [97, 255, 98]
  with pytest.raises(tokenizers.InvalidText):
    make('char').encode(text)


def test_characters_are_sorted_and_0_is_unknown():
  tokenizer = train_tokenizer('char', ['bä'.encode(), b'a\n\ncab'])
  assert tokenizer.pieces == ['\ufffd'.encode(), b'\n', b'a', b'b', b'c', 'ä'.encode()]
  assert tokenizer.encode('cäbxa\0\U0010ffff').tolist() == [4, 5, 3, 0, 2, 0, 0]
  assert tokenizer.decode([0, 4]).decode() == '\ufffdc'
  assert train_tokenizer('char', ['\ufffda'.encode()]).encode('\ufffdx').tolist() == [2, 0]


def test_one_character():
  tokenizer = train_tokenizer('char', [b'aaa'])
  assert tokenizer.vocab_size == 2
  assert graph_ids(tokenizer, ['a', 'b', '']) == [[1], [0], []]


def test_many_characters():
  text = ''.join(map(chr, range(0x10000, 0x10000 + 70_000)))
  tokenizer = train_tokenizer('char', [text.encode()])
  ids = np.concatenate(list(tokenizer.encode_blocks([text.encode()])))
  assert ids.dtype == np.uint32 and tokenizer.decode(ids).decode() == text


def test_every_byte_has_a_piece():
  tokenizer = make('sentencepiece')
  assert {bytes([b]) for b in range(256)} <= set(tokenizer.pieces)
  assert tokenizer.vocab_size == 330 and len(tokenizer.encode('the fox')) < 7


@pytest.mark.parametrize('vocab_size, words', [(10, 'at least'), (100_000, 'at most')])
def test_vocab_size_that_will_not_do_names_one_that_does(vocab_size, words):
  with pytest.raises(UserError, match=rf'^--vocab_size={vocab_size}: expected {words} \d+ for this text$') as error:
    train_tokenizer('sentencepiece', [TRAINING.encode()], vocab_size)
  size = int(str(error.value).split(words)[1].split()[0])
  assert train_tokenizer('sentencepiece', [TRAINING.encode()], size).vocab_size == size


@pytest.mark.parametrize('text', [b'', b'\n\r\n\t', '\u2581\u2581'.encode()])
def test_nothing_to_learn_pieces_from(text):
  with pytest.raises(UserError, match='--tokenizer=sentencepiece: expected text'):
    train_tokenizer('sentencepiece', [text], 300)


def test_sample_is_bounded_even_and_the_same_wherever_blocks_are_cut(monkeypatch):
  monkeypatch.setattr(tokenizers, 'SAMPLE_BYTES', 1000)
  lines = [f'line {i:04}' for i in range(1000)]
  text = '\n'.join(lines)
  sample = tokenizers._sample_sentences([text])
  assert sample == lines[::16]
  assert sample == tokenizers._sample_sentences(text[i:i + 7] for i in range(0, len(text), 7))
  long = tokenizers._sample_sentences(['x' * 5500])
  assert [len(s) for s in long] == [1000]  # five and a half sentences, and room for one


def test_training_is_repeatable():
  assert make('sentencepiece').fingerprint == train_tokenizer('sentencepiece', [TRAINING.encode()], 330).fingerprint


def test_save_and_load(tokenizer, tmp_path):
  tokenizer.save(tmp_path / 'a' / 'b')
  files = {'tokenizer.json'} | ({'tokenizer.model'} if tokenizer.kind == 'sentencepiece' else set())
  assert {path.name for path in (tmp_path / 'a' / 'b').iterdir()} == files
  loaded = load_tokenizer(tmp_path / 'a' / 'b')
  assert (loaded.kind, loaded.pieces, loaded.fingerprint) == (tokenizer.kind, tokenizer.pieces, tokenizer.fingerprint)
  text = ''.join(HARD.values())
  np.testing.assert_array_equal(loaded.encode(text), tokenizer.encode(text))


def test_saving_over_another_replaces_it(tmp_path):
  for text in (b'ab', b'xyz'):
    train_tokenizer('char', [text]).save(tmp_path)
  assert load_tokenizer(tmp_path).characters == 'xyz'
  assert [path.name for path in tmp_path.iterdir()] == ['tokenizer.json']


def test_fingerprint_follows_the_mapping():
  prints = {make(kind).fingerprint for kind in KINDS}
  prints |= {train_tokenizer('char', [b'ab']).fingerprint, train_tokenizer('char', [b'abc']).fingerprint}
  prints |= {train_tokenizer('sentencepiece', [TRAINING.encode()], 331).fingerprint}
  assert len(prints) == 6
  assert train_tokenizer('char', [b'ba', b'a']).fingerprint == train_tokenizer('char', [b'ab']).fingerprint


@pytest.mark.parametrize('json', [None, '', '{', '[]', '{}', '{"kind": "words"}', '{"kind": "char"}',
                                  '{"kind": "char", "characters": 3}', '{"kind": "sentencepiece"}', b'\xff'])
def test_damaged_tokenizer(tmp_path, json):
  if json is not None:
    (tmp_path / 'tokenizer.json').write_bytes(json if isinstance(json, bytes) else json.encode())
  with pytest.raises(UserError, match='tokenizer') as error:
    load_tokenizer(tmp_path)
  assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('size', [0, 100])
def test_damaged_model(tmp_path, size):
  make('sentencepiece').save(tmp_path)
  model = (tmp_path / 'tokenizer.model').read_bytes()
  (tmp_path / 'tokenizer.model').write_bytes(model[:size])
  with pytest.raises(UserError, match='expected a saved tokenizer'):
    load_tokenizer(tmp_path)


@pytest.mark.parametrize('ids', [[-1], [330]])
def test_ids_outside_of_the_vocabulary(ids):
  with pytest.raises(ValueError, match='expected 0 to 329'):
    make('sentencepiece').decode(ids)


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


@pytest.mark.parametrize('module,wanted', [('sentencepiece', 'pip install sentencepiece'),
                                           ('tensorflow_text', r"to export it; pip install -e '\.\[text\]'")])
def test_without_the_packages_of_sentencepiece(monkeypatch, module, wanted):
  tokenizer = tokenizers.SentencePieceTokenizer(make('sentencepiece')._model)
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(UserError, match=wanted):
    if module == 'sentencepiece':
      train_tokenizer('sentencepiece', [TRAINING.encode()], 330)
    else:
      tokenizer.encode_tf(['a'])


def test_import_is_light():
  code = ("import sys, data_pipeline.tokenizers.base; "
          "sys.exit(bool({'tensorflow_text', 'sentencepiece'} & set(sys.modules)))")
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
