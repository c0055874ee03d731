"""Free-running evaluation: how fast a model goes astray once it reads its own samples.

The text is cut into stretches of K tokens. Up to the start of each, the model reads the true text; after that, what it
samples. The j-th loss of a stretch is that of its j-th true token after j - 1 samples, so that the first is the usual
one, and what the losses rise by is what reading one's own samples costs:

    read      .. x0 | x1 .. samples .. | x5 | ..           K = 5
    judged       x1   x2   x3   x4   x5  x6   ..

A stretch in which the text ends or a document starts is left out. A stretch's samples follow from the seed and its
place in the text, whatever the rows and chunks are.
"""
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.generation import decoding, rollout
from charlm.network import losses
from charlm.network.model import LanguageModel
from data_pipeline import streams
from data_pipeline.rows import Rows
from data_pipeline.token_files import TokenFile


class FreeRunningScorer(scoring.OneDevice):
  """The loss of each of K tokens after observed text."""

  def __init__(self, model: LanguageModel, rows: Rows, steps: int, seed: int):
    """rows: the cut of the text, whose lengths are whole stretches. steps: K. seed: what all samples follow from."""
    self.model, self.rows, self.steps, self.seed = model.with_backend(model.backend.forward_only()), rows, steps, seed
    self._compiled = tf.function(self._score, jit_compile=True, autograph=False)

  def initial_carry(self, rows: int) -> Any:
    """As `Scorer.initial_carry`: the state, and the number of each row's first stretch in the text, [B] int64."""
    first = (np.arange(rows) * self.rows.length - self.rows.lead) // self.steps
    return self.model.initial_state(rows), tf.constant(first, tf.int64)

  def score(self, batch: streams.Batch, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`, of nats [K] and the number of stretches."""
    sums, carry = self._compiled(batch, carry)
    return [sums], carry

  def _score(self, batch, carry):
    (state, first), steps, model = carry, self.steps, self.model
    chunk_stretches = batch.weight.shape[1] // steps
    outputs, state = model(batch.tokens[:, :-1], model.reset(state, batch.reset), resets=batch.starts)
    stretches = rollout.cut(batch, outputs.states, outputs.logits, steps - 1, every=steps)
    place = tf.reshape(first + tf.range(chunk_stretches, dtype=tf.int64)[:, None], [-1])
    numbers = decoding.random_numbers(self.seed + place * 2**32, 0, steps - 1)[:, :, 0]
    free, _ = rollout.run(model.stepper(), stretches, tf.ones_like(stretches.inputs, tf.bool), numbers,
                          initial=model.initial_state(place.shape[0]))

    def at_starts(x):
      """[B, T] -> [1, P B]"""
      return tf.reshape(tf.transpose(x[:, ::steps]), [1, -1])

    observed = at_starts(losses.nats(outputs.logits, batch.tokens[:, 1:]))
    nats = tf.concat([observed, losses.nats(free, stretches.targets)], 0)
    whole = tf.reduce_min(tf.concat([at_starts(batch.weight), stretches.weight], 0), 0)
    if stretches.starts is not None:
      whole *= 1 - tf.cast(tf.reduce_any(stretches.starts, 0), tf.float32)
    return (tf.linalg.matvec(nats, whole), tf.reduce_sum(whole)), (state, first + chunk_stretches)


def score_file(model: LanguageModel, file: TokenFile, steps: int, *, seed: int = 0, batch_size: int = 0,
               length: int = scoring.CHUNK_LENGTH, progress: scoring.Progress | None = None) -> tuple[np.ndarray, int]:
  """Runs freely from all along a split.

  Args:
    model: to judge.
    file: a TokenFile of at least 2 tokens.
    steps: K, at least 2.
    seed: what all samples follow from.
    batch_size, length, progress: as in `scoring.score_file`; chunks are lengthened to whole stretches.

  Returns:
    nats [K], summed over stretches, and the number of stretches.
  """
  length = -(-min(length, file.num_tokens - 1) // steps) * steps
  rows = scoring.rows_of(file, batch_size, length)
  batches = scoring.stream(file, rows, length)
  if progress:
    batches = progress(batches, rows.steps(length=length, stride=length))
  return scoring.accumulate(FreeRunningScorer(model, rows, steps, seed), batches, rows.batch_size)
