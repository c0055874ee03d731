"""Rows of different lengths in a graph, joined without the assertions that TensorFlow's own operations bring along."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import tensorflow as tf


def join_rows(first: 'tf.RaggedTensor', second: 'tf.RaggedTensor') -> 'tf.RaggedTensor':
  """Each row of `first` and after it that of `second`: [B, None] and [B, None] -> [B, None], row splits int64."""
  import tensorflow as tf
  splits, others = tf.cast(first.row_splits, tf.int64), tf.cast(second.row_splits, tf.int64)
  places = [tf.range(splits[-1]) + tf.repeat(others[:-1], splits[1:] - splits[:-1]),
            tf.range(others[-1]) + tf.repeat(splits[1:], others[1:] - others[:-1])]
  values = tf.scatter_nd(tf.concat(places, 0)[:, None], tf.concat([first.values, second.values], 0),
                         (splits + others)[-1:])
  return tf.RaggedTensor.from_row_splits(tf.reshape(values, [-1]), splits + others, validate=False)
