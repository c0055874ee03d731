"""Free-running evaluation: how much worse a model predicts once it reads its own samples.

The text is divided into rollouts of K tokens (see `generation/rollout.py`). Up to the start of a rollout the model
reads the true text, and after that its own samples. The j-th loss of a rollout is the loss of the j-th true token,
after j - 1 samples. So the first loss is the usual one, and the rise of the others is the cost of reading samples:

    reads      x0   ^1   ^2   ^3   ^4 | x5   ^6  ..          K = 5, ^t: sampled
    target     x1   x2   x3   x4   x5 | x6   x7  ..

A rollout in which the text ends or a document starts is left out. The samples of a rollout follow from the seed and
the rollout's number in the text, whatever the rows and chunks are.
"""
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.generation import rollout
from charlm.generation.random_streams import random_numbers
from charlm.network import losses
from charlm.network.model import LanguageModel
from data_pipeline import streams
from data_pipeline.rows import Rows
from data_pipeline.token_files import TokenFile


class FreeRunningScorer(scoring.OneDevice):
  """The loss of each of K tokens after true text, each but the first after samples."""

  def __init__(self, model: LanguageModel, rows: Rows, steps: int, seed: int):
    """Args as those of `score_file`; rows: how the text is divided, into whole rollouts."""
    self.model, self.rows, self.steps, self.seed = model.with_backend(model.backend.forward_only()), rows, steps, seed
    self._compiled = tf.function(self._score, jit_compile=True, autograph=False)

  def begin(self, states: scoring.States) -> Any:
    """As `Scorer.begin`: the state, and the number in the text of each row's next rollout, [B] int64."""
    first = np.arange(len(states[0])) * self.rows.length // self.steps
    return super().begin(states), tf.constant(first, tf.int64)

  def states(self, carry: Any) -> scoring.States:
    """As `Scorer.states`."""
    return super().states(carry[0])

  def score(self, batch: streams.Batch, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`, of nats [K] and the number of rollouts."""
    sums, carry = self._compiled(batch, carry)
    return [sums], carry

  def _score(self, batch: streams.Batch, carry: Any) -> tuple[scoring.Sums, Any]:
    (state, first), steps, model = carry, self.steps, self.model
    chunk_rollouts = batch.weight.shape[1] // steps
    outputs, state = model(batch.tokens[:, :-1], model.reset(state, batch.reset), resets=batch.starts)
    rollouts = rollout.plan(batch, outputs.states, outputs.logits, steps - 1, stride=steps)
    number = tf.reshape(first + tf.range(chunk_rollouts, dtype=tf.int64)[:, None], [-1])
    numbers = random_numbers(self.seed + number * 2**32, 0, steps - 1)[:, :, 0]
    free, _ = rollout.run(model.stepper(), rollouts, tf.ones_like(rollouts.inputs, tf.bool), numbers,
                          initial=model.initial_state(number.shape[0]))

    def at_starts(x: tf.Tensor) -> tf.Tensor:
      """[B, T] -> [1, P B]"""
      return tf.reshape(tf.transpose(x[:, ::steps]), [1, -1])

    teacher_forced = at_starts(losses.nats(outputs.logits, batch.tokens[:, 1:]))
    nats = tf.concat([teacher_forced, losses.nats(free, rollouts.targets)], 0)
    whole = tf.reduce_min(tf.concat([at_starts(batch.weight), rollouts.weight], 0), 0)
    if rollouts.starts is not None:
      whole *= 1 - tf.cast(tf.reduce_any(rollouts.starts, 0), tf.float32)
    return (tf.linalg.matvec(nats, whole), tf.reduce_sum(whole)), (state, first + chunk_rollouts)


def score_file(model: LanguageModel, file: TokenFile, steps: int, *, seed: int = 0, batch_size: int = 0,
               length: int = scoring.CHUNK_LENGTH, progress: scoring.Progress | None = None) -> tuple[np.ndarray, int]:
  """Scores a split by rollouts that begin every K tokens.

  Args:
    model: what is evaluated.
    file: at least 2 tokens.
    steps: K, at least 2.
    seed: what all samples follow from.
    batch_size, length, progress: as in `scoring.score_file`; chunks are lengthened to whole rollouts.

  Returns:
    nats [K], summed over rollouts, and the number of rollouts.
  """
  length = -(-min(length, file.num_tokens - 1) // steps) * steps
  rows = scoring.rows_of(file, batch_size, length)
  return scoring.accumulate(FreeRunningScorer(model, rows, steps, seed), scoring.stream(file, rows, length), rows,
                            scoring.shown(progress, rows, length))
