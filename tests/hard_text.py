"""Text that is hard for tokenizers, and tokenizers that have learned some of it."""
import functools
import random

import tensorflow as tf

from data_pipeline.tokenizers.registry import TOKENIZERS, train_tokenizer

KINDS = [*TOKENIZERS]
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
def trained(kind, everything=False):
  """A tokenizer; with `everything`, char has seen all the texts of this module."""
  text = TRAINING + (''.join([*HARD.values(), *random_texts()]) if everything else '')
  return train_tokenizer(kind, [text.encode()], 330)


def graph_ids(tokenizer, texts):
  """Ids from a compiled graph with an input of unknown length, as lists."""
  function = tf.function(tokenizer.encode_tf, input_signature=[tf.TensorSpec([None], tf.string)])
  ids = function(tf.constant(texts, tf.string, shape=[len(texts)]))
  assert ids.dtype == tf.int32 and ids.shape.rank == 2
  return ids.to_list()
