"""The choice of a token: logits become probabilities, and a number picks from them.

The temperature comes first. Top-k, top-p and min-p rule tokens out by the probabilities that it leaves, each on its
own, and a token must pass all three.
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

MAX_SHARPNESS = 1e30  # 1 / temperature at temperature 0: softmax leaves nothing to any token but the most likely

TokenFunction = Callable[[tf.Tensor], tf.Tensor]


def token_probabilities(rows: tf.Tensor | int, vocab_size: int, *, temperature: Any, top_k: Any,
                        top_p: Any, min_p: Any = 0.0, max_width: int = 0) -> TokenFunction:
  """Makes the function from logits to the probabilities that a token is sampled by.

  Args:
    rows: B.
    vocab_size: V.
    temperature, top_k, top_p, min_p, max_width: as in `decoding.generate`.

  Returns:
    A function: logits [B, V], -inf for tokens that are ruled out already -> [B, V], whose sum is at most 1, because
    tokens that are ruled out get 0.
  """
  temperature = per_row(temperature, rows, tf.float32)[:, None]
  sharpness = tf.where(temperature > 0, tf.minimum(1 / temperature, MAX_SHARPNESS), MAX_SHARPNESS)  # NaN counts as 0
  sharpness = tf.maximum(sharpness, 1 / MAX_SHARPNESS)  # 0 times -inf is no number
  truncate, likely_enough = truncation(rows, vocab_size, top_k, top_p, max_width), relative_truncation(rows, min_p)

  def probabilities(logits: tf.Tensor) -> tf.Tensor:
    # Less the highest first: where XLA rounds once, not twice, the highest would not be 0 under a huge factor.
    below = logits - tf.reduce_max(logits, 1, keepdims=True)
    return likely_enough(truncate(tf.nn.softmax(below * sharpness)))

  return probabilities


def truncation(rows: tf.Tensor | int, vocab_size: int, top_k: Any, top_p: Any, max_width: int = 0) -> TokenFunction:
  """Makes the function that rules tokens out.

  Args:
    rows: B.
    vocab_size: V.
    top_k, top_p, max_width: as in `decoding.generate`.

  Returns:
    A function: probabilities [B, V] -> the same, with 0 for every token that top-k or top-p rules out.
  """
  if isinstance(top_k, int):
    top_k = min(top_k, vocab_size)  # which a tensor holds
  constants = [tf.get_static_value(tf.convert_to_tensor(v)) for v in (top_k, top_p)]
  known = all(c is not None for c in constants)
  if known and np.all(constants[0] <= 0) and np.all(constants[1] >= 1):
    return lambda p: p
  top_k, top_p = per_row(top_k, rows, tf.int32)[:, None], per_row(top_p, rows, tf.float32)[:, None]
  max_count = tf.where(top_k > 0, tf.minimum(top_k, vocab_size), vocab_size)
  max_before = tf.where(top_p < 1, tf.maximum(top_p, 1e-30), 2.0)  # 2: rounding must not rule out the last tokens
  unlimited = tf.logical_and(max_count >= vocab_size, max_before > 1)
  width: tf.Tensor | int = max_width
  if known:  # and XLA needs a number
    width = int(np.max(np.where(constants[0] > 0, np.minimum(constants[0], vocab_size), vocab_size)))
  elif not max_width:
    width = tf.reduce_max(tf.where(unlimited, 1, max_count))
  limited = tf.logical_not(tf.reduce_all(unlimited))

  def truncate(p: tf.Tensor) -> tf.Tensor:
    kept = tf.logical_or(unlimited, most_likely(p, width, max_count, max_before))
    return tf.where(kept, p, 0.0)

  return lambda p: tf.cond(limited, lambda: truncate(p), lambda: p)


def relative_truncation(rows: tf.Tensor | int, min_p: Any) -> TokenFunction:
  """Makes the function that rules out tokens which are much less likely than the most likely one (Nguyen et al. 2024).

  Args:
    rows: B.
    min_p: as in `decoding.generate`.

  Returns:
    A function: probabilities [B, V] -> the same, with 0 for every token that min-p rules out.
  """
  known = tf.get_static_value(tf.convert_to_tensor(min_p))
  if known is not None and np.all(known <= 0):
    return lambda p: p
  share = tf.minimum(per_row(min_p, rows, tf.float32), 1.0)[:, None]
  return lambda p: tf.where(p < share * tf.reduce_max(p, 1, keepdims=True), 0.0, p)


def most_likely(p: tf.Tensor, width: tf.Tensor | int, max_count: tf.Tensor, max_before: tf.Tensor) -> tf.Tensor:
  """Finds the most likely tokens of each row; of equally likely ones those with the lowest ids.

  Args:
    p: probabilities [B, V].
    width: the largest number of tokens that any row keeps.
    max_count: [B, 1], how many tokens a row keeps at most.
    max_before: [B, 1]; a token is kept while the sum of the more likely ones is less than this.

  Returns:
    [B, V] bool: the token is kept.
  """
  values = tf.math.top_k(p, width).values
  before = tf.cumsum(values, axis=1, exclusive=True)
  kept = tf.logical_and(tf.range(width) < max_count, before < max_before)
  count = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1, keepdims=True)
  least = tf.gather(values, count - 1, axis=1, batch_dims=1)
  above, equal = p > least, tf.equal(p, least)
  # Of tokens that are as likely as the last one kept, the lowest ids stay.
  spare = count - tf.reduce_sum(tf.cast(above, tf.int32), axis=1, keepdims=True)
  equal = tf.logical_and(equal, tf.cumsum(tf.cast(equal, tf.int32), axis=1) <= spare)
  return tf.logical_or(above, equal)


def sample_categorical(p: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
  """Samples a token for each row, by where a random number falls in the running sum of the probabilities.

  The number is scaled by the last value of the running sum, so that rounding cannot put it above that.

  Args:
    p: [B, V], in proportion to the probabilities; any sum above 0.
    numbers: [B, 1] in [0, 1).

  Returns:
    [B] int32; never a token with p = 0.
  """
  cumulative = tf.cumsum(p, axis=1)
  thresholds = numbers * cumulative[:, -1:]
  return tf.squeeze(tf.raw_ops.UpperBound(sorted_inputs=cumulative, values=thresholds, out_type=tf.int32), 1)


def per_row(value: Any, rows: tf.Tensor | int, dtype: tf.DType) -> tf.Tensor:
  """A number, or one for each row [B] -> [B]."""
  return tf.broadcast_to(tf.cast(value, dtype), [rows])
