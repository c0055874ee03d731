"""The char tokenizer: one token per Unicode character."""
import pathlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.tokenizers.base import REPLACEMENT, Tokenizer, decode_blocks, token_dtype

if TYPE_CHECKING:
  import tensorflow as tf

NUM_CODE_POINTS = 0x110000  # of Unicode


class CharTokenizer(Tokenizer):
  """One token per Unicode character of the training text.

  Id 0 is any other character, and decodes to U+FFFD.
  """
  kind = 'char'
  unknown_id = 0

  def __init__(self, characters: str) -> None:
    """`characters`: sorted, each once; their ids are 1, 2, and so on."""
    super().__init__([c.encode() for c in REPLACEMENT + characters])
    self.characters = characters
    self._ids = np.zeros(NUM_CODE_POINTS, token_dtype(self.vocab_size))  # of each code point
    self._ids[code_points(characters)] = np.arange(1, self.vocab_size)

  @classmethod
  def train(cls, blocks: Iterable[bytes], vocab_size: int, on_invalid: str) -> 'CharTokenizer':
    """A tokenizer of the characters in the text; `vocab_size` is not used."""
    return cls(characters_of(blocks, on_invalid))

  @classmethod
  def load(cls, facts: dict[str, Any], folder: pathlib.Path) -> 'CharTokenizer':
    return cls(facts['characters'])

  def encode_blocks(self, blocks: Iterable[bytes], on_invalid: str = 'error') -> Iterator[np.ndarray]:
    return (self._ids[code_points(text)] for text in decode_blocks(blocks, on_invalid))

  def encode_tf(self, text: 'tf.Tensor') -> 'tf.RaggedTensor':
    import tensorflow as tf
    known = tf.constant(code_points(self.characters).astype(np.int32))
    codes = tf.strings.unicode_decode(text, 'UTF-8')
    nearest = tf.minimum(tf.searchsorted(known, codes.values), self.vocab_size - 2)
    return codes.with_values(tf.where(tf.gather(known, nearest) == codes.values, nearest + 1, 0))

  def _facts(self) -> dict[str, Any]:
    return {'characters': self.characters}


def characters_of(blocks: Iterable[bytes], on_invalid: str) -> str:
  """The characters that a text has, sorted, each once."""
  seen = np.zeros(NUM_CODE_POINTS, bool)
  for text in decode_blocks(blocks, on_invalid):
    seen[code_points(text)] = True
  return ''.join(map(chr, np.flatnonzero(seen).tolist()))


def code_points(text: str) -> np.ndarray:
  """The code points of the characters: [N] uint32."""
  return np.frombuffer(text.encode('utf-32-le'), '<u4')
