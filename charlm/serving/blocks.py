"""Reads texts of different lengths from states that are given, side by side.

Texts are packed (see `network/backend/packed.py`) and read in blocks of tokens, so that memory has a bound. What does
not depend on the state is one product over all tokens of a block.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.network.backend.packed import Packing
from charlm.network.model import Reader

BLOCK_TOKENS = 4096  # read at a time


class Packed(NamedTuple):
  """Texts [B, None], packed."""
  packing: Packing
  places: tf.Tensor  # [N] of each token of the flat texts
  order: tf.Tensor  # [B] the rows, longest text first
  lengths: tf.Tensor  # [B] in that order

  def pack(self, values: tf.Tensor) -> tf.Tensor:
    """[N] of each token of the flat texts -> the same, packed."""
    return tf.scatter_nd(self.places[:, None], values, tf.shape(values))


def pack(row_lengths: tf.Tensor) -> Packed:
  """Texts of these lengths [B]."""
  lengths, rows = tf.cast(row_lengths, tf.int32), tf.size(row_lengths)
  order = tf.argsort(lengths, direction='DESCENDING', stable=True)
  falling = tf.gather(lengths, order)
  times = tf.ragged.range(lengths).values
  steps = tf.reduce_max(tf.concat([lengths, [0]], 0))
  counts = rows - tf.searchsorted(tf.reverse(falling, [0]), tf.range(steps), side='right')
  offsets = tf.cumsum(counts, exclusive=True)
  places = tf.gather(offsets, times) + tf.repeat(tf.math.invert_permutation(order), lengths)
  return Packed(Packing(counts, offsets), places, order, falling)


def fold(reader: Reader, tokens: tf.Tensor, texts: Packed, state: Any, visit: Callable[..., tf.Tensor],
         total: tf.Tensor) -> tuple[Any, tf.Tensor]:
  """Reads packed texts, block by block.

  Args:
    reader: the model.
    tokens: [N], packed.
    texts: how.
    state: before the texts, a nest of [B, H]; a text without tokens leaves it as it is.
    visit: (total, states, first) -> total, of each block: the states after each of its tokens, a nest of [n, H], and
      the place of its first token.
    total: before the first block.

  Returns:
    the states after each row's last token, and the total.
  """
  nest, (counts, offsets) = tf.nest.map_structure, texts.packing

  def block(t: tf.Tensor, state: Any, total: tf.Tensor) -> tuple:
    rows, first = counts[t], offsets[t]
    end = tf.minimum(t + tf.maximum(BLOCK_TOKENS // rows, 1), tf.size(counts))
    packing = Packing(counts[t:end], offsets[t:end] - first)
    states = reader.read(tokens[first:first + tf.reduce_sum(packing.counts)], nest(lambda s: s[:rows], state), packing)
    last = tf.gather(packing.offsets, tf.minimum(texts.lengths[:rows], end) - 1 - t) + tf.range(rows)
    after = nest(lambda new, old: tf.concat([tf.gather(new, last), old[rows:]], 0), states, state)
    return end, after, visit(total, states, first)

  start = tf.constant(0), nest(lambda s: tf.gather(s, texts.order), state), total
  _, state, total = tf.while_loop(lambda t, *_: t < tf.size(counts), block, start)
  back = tf.math.invert_permutation(texts.order)
  return nest(lambda s: tf.gather(s, back), state), total
