"""Rollouts: parts of a text in which the model reads its own predictions, and is judged by the true text.

Prediction-dependent transitions (Chiappa, Racaniere, Wierstra, Mohamed 2017, "Recurrent Environment Simulators"). A
chunk of T tokens is read as usual (teacher-forced). From its states, K tokens apart, rollouts of K steps begin, all
computed side by side. Their losses are those of the T - 1 targets from the second on, each of them once:

    teacher-forced   x0 -- x1 -- x2 -- x3 -- x4 -- x5 -- x6          T = 7, K = 3
                     |                 |
    rollouts         +---- ^1 -- ^2 -- ^3
                                       +---- ^4 -- ^5 -- ^6       ^t: predicted from the step before

The model reads either a token sampled from its prediction, and no gradient goes through the choice, or the expected
embedding, and the gradient goes through. Gradients also go through the states, back into the teacher-forced pass.
Where a document starts, its first token is the true one, and is read from the initial state. A rollout has no dropout,
as when the model writes; the state that it begins with is the one of the teacher-forced pass.
"""
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.generation.categorical import sample_categorical
from charlm.generation.decoding import Advance
from charlm.network import recurrence
from data_pipeline.streams import Batch


class Rollouts(NamedTuple):
  """What rollouts begin with, and the true text beside them: P rollouts of K steps in each of B rows, R = P B."""
  logits: tf.Tensor  # [R, V] of the first token to predict
  state: Any  # nest of [R, H] that goes with them
  inputs: tf.Tensor  # [K, R] int32, the true tokens
  targets: tf.Tensor  # [K, R] int32
  weight: tf.Tensor  # [K, R] float32 of the targets, 0 after the end of the chunk
  starts: tf.Tensor | None  # [K, R] bool: the true token is read, from the initial state


def plan(batch: Batch, states: Any, logits: tf.Tensor, steps: int, stride: int | None = None) -> Rollouts:
  """Divides a chunk that was read into rollouts.

  Args:
    batch: the chunk.
    states: after each token, a nest of [T, B, H].
    logits: [B, T, V].
    steps: K, less than T.
    stride: tokens from the start of one rollout to the next, at least K; None is K.

  Returns:
    `Rollouts`; row p B + b is rollout p of row b.
  """
  length, stride = batch.weight.shape[1], stride or steps
  assert 0 < steps < length and steps <= stride, (steps, length, stride)

  def divide(x: tf.Tensor) -> tf.Tensor:
    """[B, T - 1] -> [K, P B]"""
    count = -(-(length - 1) // stride)
    x = tf.reshape(tf.pad(x, [[0, 0], [0, count * stride - length + 1]]), [-1, count, stride])
    return tf.reshape(tf.transpose(x, [2, 1, 0])[:steps], [steps, -1])

  def first(x: tf.Tensor) -> tf.Tensor:
    """[T, B, n] -> [P B, n]"""
    return tf.reshape(x[:-1:stride], [-1, x.shape[-1]])

  return Rollouts(first(tf.transpose(logits, [1, 0, 2])), tf.nest.map_structure(first, states),
                  divide(batch.tokens[:, 1:-1]), divide(batch.tokens[:, 2:]), divide(batch.weight[:, 1:]),
                  None if batch.starts is None else divide(batch.starts[:, 1:]))


def run(advance: Advance, rollouts: Rollouts, self_fed: tf.Tensor, numbers: tf.Tensor, *, initial: Any,
        expected: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
  """Runs rollouts, step by step.

  Args:
    advance: (tokens [R] int32 or probabilities [R, V], state) -> (logits [R, V], state). Gradients, if any are asked
      for, go through it by autodiff.
    rollouts: from `plan`.
    self_fed: [K, R] bool: the model reads its prediction, and not the true token.
    numbers: [K, R] in [0, 1), what tokens are sampled by.
    initial: the state where documents start, a nest of [R, H].
    expected: whether the model reads the expected embedding, and not a sampled token.

  Returns:
    logits [K, R, V], and the outputs of all recurrent layers side by side [K, R, L H].
  """
  steps, vocab_size = rollouts.inputs.shape[0], rollouts.logits.shape[-1]

  def step(t: tf.Tensor, logits: tf.Tensor, state: Any, written: list[tf.TensorArray]) -> tuple:
    true_token, fed = tf.gather(rollouts.inputs, t), tf.gather(self_fed, t)
    if rollouts.starts is not None:
      begins = tf.gather(rollouts.starts, t)
      fed &= ~begins
      state = recurrence.where_reset(begins, initial, state)
    if expected:
      x = tf.where(fed[:, None], tf.nn.softmax(logits), tf.one_hot(true_token, vocab_size))
    else:
      sampled = sample_categorical(tf.nn.softmax(tf.stop_gradient(logits)), tf.gather(numbers, t)[:, None])
      x = tf.where(fed, sampled, true_token)
    logits, state = advance(x, state)
    outputs = tf.concat([tf.nest.flatten(layer)[0] for layer in state], -1)
    return t + 1, logits, state, [a.write(t, v) for a, v in zip(written, (logits, outputs), strict=True)]

  units = sum(tf.nest.flatten(layer)[0].shape[-1] for layer in rollouts.state)
  arrays = [tf.TensorArray(tf.float32, steps, element_shape=[rollouts.logits.shape[0], n]) for n in (vocab_size, units)]
  loop = (tf.constant(0), rollouts.logits, rollouts.state, arrays)
  _, _, _, (logits, outputs) = tf.while_loop(lambda t, *_: t < steps, step, loop, maximum_iterations=steps)
  return logits.stack(), outputs.stack()
