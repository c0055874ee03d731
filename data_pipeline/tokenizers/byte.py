"""The byte tokenizer: one token per byte."""
import pathlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.tokenizers.base import Tokenizer

if TYPE_CHECKING:
  import tensorflow as tf


class ByteTokenizer(Tokenizer):
  """One token per byte: reads anything."""
  kind = 'byte'
  is_trained = False
  reads_any_bytes = True

  def __init__(self) -> None:
    super().__init__([bytes([b]) for b in range(256)])

  @classmethod
  def train(cls, blocks: Iterable[bytes], vocab_size: int, on_invalid: str) -> 'ByteTokenizer':
    """Reads no text: there is one byte tokenizer."""
    return cls()

  @classmethod
  def load(cls, facts: dict[str, Any], folder: pathlib.Path) -> 'ByteTokenizer':
    return cls()

  def encode_blocks(self, blocks: Iterable[bytes], on_invalid: str = 'error') -> Iterator[np.ndarray]:
    return (np.frombuffer(block, np.uint8) for block in blocks)

  def encode_tf(self, text: 'tf.Tensor') -> 'tf.RaggedTensor':
    import tensorflow as tf
    # Joined to one string, because decode_raw pads or refuses strings of different lengths.
    values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(text), tf.uint8), tf.int32)
    return tf.RaggedTensor.from_row_lengths(values, tf.strings.length(text), validate=False)
