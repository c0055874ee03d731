"""Arrays that hold a tensor [B, ..] for each token, as the loops of recurrence.py read and write them."""
from typing import Any, NamedTuple

import tensorflow as tf


class Layout(NamedTuple):
  """How a nest of tensors of a token lies in arrays: each in one of its own or, packed, side by side in a single one.

  columns: of each tensor, a nest.
  """
  columns: Any
  packed: bool

  def make(self, steps: tf.Tensor, like: tf.Tensor) -> list[tf.TensorArray]:
    """The arrays, for so many tokens; like [.., B, any]."""
    columns = tf.nest.flatten(self.columns)
    return [array(steps, c, like) for c in ([sum(columns)] if self.packed else columns)]

  def join(self, values: Any) -> list[tf.Tensor]:
    """A nest -> what is written."""
    flat = tf.nest.flatten(values)
    return [tf.concat(flat, -1)] if self.packed else flat

  def split(self, written: list[tf.Tensor]) -> Any:
    """What was written for a token, or [T, B, ..] for all -> the nest."""
    flat = tf.split(written[0], tf.nest.flatten(self.columns), -1) if self.packed else written
    return tf.nest.pack_sequence_as(self.columns, flat)


def array(steps: tf.Tensor, columns: int, like: tf.Tensor) -> tf.TensorArray:
  """An array for a tensor [B, columns] of each token; like [.., B, any]."""
  return tf.TensorArray(like.dtype, steps, element_shape=[like.shape[-2], columns])


def unstack(x: tf.Tensor) -> tf.TensorArray:
  """[T, B, columns] -> an array of it."""
  return array(tf.shape(x)[0], x.shape[-1], x).unstack(x)


def read(arrays: Any, t: tf.Tensor) -> Any:
  """Token t of a nest of arrays."""
  return tf.nest.map_structure(lambda a: a.read(t), arrays)


def write(arrays: Any, t: tf.Tensor, values: Any) -> Any:
  """The nest of arrays with these values, a nest like it, for token t."""
  flat = [a.write(t, v) for a, v in zip(tf.nest.flatten(arrays), tf.nest.flatten(values), strict=True)]
  return tf.nest.pack_sequence_as(arrays, flat)


def stack(arrays: Any) -> Any:
  """A nest of arrays -> of tensors [T, B, ..]."""
  return tf.nest.map_structure(lambda a: a.stack(), arrays)
