"""Random numbers for sampling: each row has a stream of its own, one number per token.

The stream follows from the row's seed, and a token's number from its place in the row's text. So a row's text does not
depend on the other rows, nor on the number of calls that write it.
"""
import numpy as np
import tensorflow as tf

BLOCK = 64  # random numbers that one draw makes; changing it changes every text


def random_numbers(seed: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
  """Takes numbers from the stream of each row.

  Args:
    seed: [B] int64, one for each row.
    start: how many numbers of each stream to pass over, a scalar or [B].
    length: how many to take, scalar.

  Returns:
    [length, B, 1] float32 in [0, 1).
  """
  rows = seed.shape[0] or tf.shape(seed)[0]
  start = tf.broadcast_to(tf.cast(start, tf.int64), [rows])[:, None]
  blocks = start // BLOCK + tf.range((length + 2 * BLOCK - 2) // BLOCK, dtype=tf.int64)
  keys = tf.stack([tf.broadcast_to(seed[:, None], tf.shape(blocks)), blocks], -1)
  streams = tf.reshape(_draw(tf.reshape(keys, [-1, 2])), [rows, -1])
  wanted = tf.cast(start % BLOCK, tf.int32) + tf.range(length)
  # Not a slice: XLA would compile one for each place where it begins.
  return tf.transpose(tf.gather(streams, wanted, batch_dims=1))[:, :, None]


def ragged_numbers(seed: tf.Tensor, start: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """As `random_numbers`, where each row passes over and takes as many as it needs; not for XLA.

  Args:
    seed: [B] int64.
    start: [B] int32, how many numbers of its stream each row passes over.
    lengths: [B] int32, how many it takes.

  Returns:
    numbers of all rows, one after the other [N] float32, and where those of each row begin [B] int32; others may lie
    between them.
  """
  counts = (start % BLOCK + lengths + BLOCK - 1) // BLOCK  # of blocks
  first = tf.cumsum(counts, exclusive=True)
  blocks = tf.repeat(start // BLOCK - first, counts) + tf.range(tf.reduce_sum(counts))
  keys = tf.stack([tf.repeat(seed, counts), tf.cast(blocks, tf.int64)], 1)
  return tf.reshape(_draw(keys), [-1]), first * BLOCK + start % BLOCK


def _draw(keys: tf.Tensor) -> tf.Tensor:
  """(seed, block) [n, 2] int64 -> the numbers of each block [n, BLOCK]."""
  # Whole numbers, because XLA makes other floats of the same bits than TensorFlow does. alg='philox' is named because
  # XLA on a CPU is 60 times slower with the default.
  drawn = tf.map_fn(lambda key: tf.random.stateless_uniform([BLOCK], key, None, None, tf.int32, alg='philox'), keys,
                    fn_output_signature=tf.TensorSpec([BLOCK], tf.int32))
  return tf.cast(tf.bitwise.bitwise_and(drawn, 2**24 - 1), tf.float32) * 2.0**-24


def row_seeds(seed: int, rows: int) -> np.ndarray:
  """Seeds for several rows.

  Args:
    seed: below 2**31.
    rows: how many.

  Returns:
    [rows] int64: `seed` for row 0, and for each row after it one that no other `seed` shares.
  """
  return seed + (np.arange(rows, dtype=np.int64) << 32)
