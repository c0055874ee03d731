"""The char tokenizer knows the characters of its training text; any other is token 0."""
import numpy as np

from data_pipeline.tokenizers.registry import load_tokenizer, train_tokenizer
from hard_text import graph_ids


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


def test_saving_over_another_replaces_it(tmp_path):
  for text in (b'ab', b'xyz'):
    train_tokenizer('char', [text]).save(tmp_path)
  assert load_tokenizer(tmp_path).characters == 'xyz'
  assert [path.name for path in tmp_path.iterdir()] == ['tokenizer.json']
