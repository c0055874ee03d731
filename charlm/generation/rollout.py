"""Multi-step loss: the model goes on from its own predictions, and is judged by the true text.

Prediction-dependent transitions (Chiappa, Racaniere, Wierstra, Mohamed 2017, "Recurrent Environment Simulators"). From
states of the teacher-forced pass over a chunk of T tokens, K tokens apart, stretches of K steps set out, all side by
side; their losses lie on the T - 1 targets from the second on, each of them once:

    observed   x0 -- x1 -- x2 -- x3 -- x4 -- x5 -- x6          T = 7, K = 3
               |                 |
    self-fed   +---- ^1 -- ^2 -- ^3
                                 +---- ^4 -- ^5 -- ^6       ^t: predicted from the step before

A token is sampled, and no gradient goes through it, or the expected embedding is read, and it does. Gradients go
through the states, too, back into the teacher-forced pass. Where a document starts, its first token is given, and read
from the initial state. Nothing is dropped in a stretch, as when the model writes; what it sets out from is as the pass
left it.
"""
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.generation import decoding
from charlm.network import recurrence


class Stretches(NamedTuple):
  """P stretches of K steps in each of B rows, side by side: R = P B rows."""
  logits: tf.Tensor  # [R, V] of the first token to predict
  state: Any  # nest of [R, H] that goes with them
  inputs: tf.Tensor  # [K, R] int32, the true tokens
  targets: tf.Tensor  # [K, R] int32
  weight: tf.Tensor  # [K, R] float32 of the targets, 0 after the end of the chunk
  starts: tf.Tensor | None  # [K, R] bool: the true token is read, from the initial state


def cut(batch, states, logits, steps, every=None):
  """A chunk that was read, -> Stretches.

  Args:
    batch: a streams.Batch.
    states: after each token, a nest of [T, B, H].
    logits: [B, T, V].
    steps: K, less than T.
    every: tokens from one start to the next, K at least and by default.
  """
  length, every = batch.weight.shape[1], every or steps
  assert 0 < steps < length and steps <= every, (steps, length, every)

  def stretches(x):
    """[B, T - 1] -> [K, P B]"""
    count = -(-(length - 1) // every)
    x = tf.reshape(tf.pad(x, [[0, 0], [0, count * every - length + 1]]), [-1, count, every])
    return tf.reshape(tf.transpose(x, [2, 1, 0])[:steps], [steps, -1])

  def first(x):
    """[T, B, n] -> [P B, n]"""
    return tf.reshape(x[:-1:every], [-1, x.shape[-1]])

  return Stretches(first(tf.transpose(logits, [1, 0, 2])), tf.nest.map_structure(first, states),
                   stretches(batch.tokens[:, 1:-1]), stretches(batch.tokens[:, 2:]), stretches(batch.weight[:, 1:]),
                   None if batch.starts is None else stretches(batch.starts[:, 1:]))


def run(advance, stretches, own, numbers, *, initial, expected=False):
  """Runs stretches on what the model predicts.

  Args:
    advance: (tokens [R] int32 or probabilities [R, V], state) -> (logits [R, V], state); its gradient is autodiff's.
    stretches: Stretches.
    own: [K, R] bool: the prediction is read, and not the true token.
    numbers: [K, R] in [0, 1), what tokens are sampled by.
    initial: the state where documents start, a nest of [R, H].
    expected: whether the prediction is the expected embedding, and not a sampled token.

  Returns:
    logits [K, R, V], outputs of all recurrent layers side by side [K, R, L H].
  """
  steps, vocab_size = stretches.inputs.shape[0], stretches.logits.shape[-1]

  def step(t, logits, state, kept):
    given, reads_own = tf.gather(stretches.inputs, t), tf.gather(own, t)
    if stretches.starts is not None:
      begins = tf.gather(stretches.starts, t)
      reads_own &= ~begins
      state = recurrence.where_reset(begins, initial, state)
    if expected:
      x = tf.where(reads_own[:, None], tf.nn.softmax(logits), tf.one_hot(given, vocab_size))
    else:
      drawn = decoding.pick(tf.nn.softmax(tf.stop_gradient(logits)), tf.gather(numbers, t)[:, None])
      x = tf.where(reads_own, drawn, given)
    logits, state = advance(x, state)
    outputs = tf.concat([tf.nest.flatten(layer)[0] for layer in state], -1)
    return t + 1, logits, state, [a.write(t, v) for a, v in zip(kept, (logits, outputs), strict=True)]

  units = sum(tf.nest.flatten(layer)[0].shape[-1] for layer in stretches.state)
  kept = [tf.TensorArray(tf.float32, steps, element_shape=[stretches.logits.shape[0], n]) for n in (vocab_size, units)]
  loop = (tf.constant(0), stretches.logits, stretches.state, kept)
  _, _, _, kept = tf.while_loop(lambda t, *_: t < steps, step, loop, maximum_iterations=steps)
  return [a.stack() for a in kept]
