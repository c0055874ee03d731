"""Reads texts: their states, and how likely each is. Long ones are cut into parts that are read side by side."""
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from charlm.evaluation.scoring import STATE_TOLERANCE
from charlm.network.model import Reader
from charlm.serving import parts
from charlm.serving.blocks import fold, pack

BLOCK_LOGITS = 1 << 22  # numbers, 16 MB, that one product makes
EXACT = {'float32': 1e-4, 'bfloat16': 1e-2}  # share of a state that rounding may change, by --compute_dtype


def prefill(reader: Reader, ids: tf.RaggedTensor, state: Any) -> Any:
  """Reads texts [B, None] from a state, a nest of [B, H] -> the state after them. Computes no logits."""
  def segment(p: parts.Parts, s: tf.Tensor, which: tf.Tensor, state: Any) -> tuple[Any, tf.Tensor]:
    lengths, places = parts.segment_of(p, s, which)
    texts = pack(lengths)
    return fold(reader, texts.pack(tf.gather(ids.values, places)), texts, state, lambda total, *_: total,
                tf.zeros(tf.shape(lengths), tf.float64))

  return parts.read(segment, tf.cast(ids.row_lengths(), tf.int32), state, EXACT[reader.compute_dtype])[0]


def log_probs(reader: Reader, ids: tf.RaggedTensor, start: int, state: Any) -> tf.Tensor:
  """How likely texts are that begin after the token `start`, which is read from `state`: [B] float32, nats."""
  targets = ids.values
  begins = tf.equal(tf.ragged.range(ids.row_lengths()).values, 0)
  inputs = tf.where(begins, start, tf.roll(targets, 1, 0))

  def segment(p: parts.Parts, s: tf.Tensor, which: tf.Tensor, state: Any) -> tuple[Any, tf.Tensor]:
    lengths, places = parts.segment_of(p, s, which)
    texts = pack(lengths)
    rows = texts.pack(tf.repeat(tf.range(tf.size(lengths)), lengths))
    add = _adding(reader, texts.pack(tf.gather(targets, places)), rows)
    return fold(reader, texts.pack(tf.gather(inputs, places)), texts, state, add,
                tf.zeros(tf.shape(lengths), tf.float64))

  losses = parts.read(segment, tf.cast(ids.row_lengths(), tf.int32), state, STATE_TOLERANCE)[1]
  return tf.cast(-losses, tf.float32)


def _adding(reader: Reader, targets: tf.Tensor, rows: tf.Tensor) -> Callable[..., tf.Tensor]:
  """What `fold` calls to add the losses of packed targets [N] to those of their rows [N]."""
  size = max(1, BLOCK_LOGITS // reader.vocab_size)

  def add(total: tf.Tensor, states: Any, first: tf.Tensor) -> tf.Tensor:
    count = tf.shape(tf.nest.flatten(states)[0])[0]

    def part(at: tf.Tensor, total: tf.Tensor) -> tuple:
      end = tf.minimum(at + size, count)
      logits = reader.logits(tf.nest.map_structure(lambda s: s[at:end], states))
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets[first + at:first + end], logits)
      return end, tf.tensor_scatter_nd_add(total, rows[first + at:first + end, None], tf.cast(losses, tf.float64))

    return tf.while_loop(lambda at, _: at < count, part, (tf.constant(0), total))[1]

  return add
