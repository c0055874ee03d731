"""Monte Carlo dropout: the mean prediction of a model over several draws of its dropout.

Gal and Ghahramani (2016), "Dropout as a Bayesian Approximation" and "A Theoretically Grounded Application of Dropout
in Recurrent Neural Networks". The text is read several times, with dropout. Each pass draws its own masks and carries
its own state. The probabilities of the passes are averaged, token by token, and the loss is -log of the mean.
"""
import copy
import dataclasses
from typing import Any

import tensorflow as tf

from charlm.evaluation import scoring
from charlm.network import losses, runtime
from charlm.network.dropout import Noise
from charlm.network.model import LanguageModel
from data_pipeline import streams


class McDropoutScorer(scoring.OneDevice):
  """The mean of the probabilities of several passes, each with dropout of its own."""

  def __init__(self, model: LanguageModel, *, passes: int, seed: int):
    """model: trained with dropout; it stays as it is. passes: how many. seed: what the masks follow from."""
    self.model, self.passes, self.seed = copy.copy(model), passes, seed
    self.model.backend = model.backend.forward_only()
    self.model.config = dataclasses.replace(model.config, initial_state='zeros')  # its noise is for training
    self._pass = tf.function(self._one_pass, jit_compile=True, autograph=False)
    self._sums = tf.function(self._mean_sums, jit_compile=True, autograph=False)

  def initial_states(self, rows: int) -> scoring.States:
    """As `Scorer.initial_states`: those of each pass."""
    return super().initial_states(rows) * self.passes

  def begin(self, states: scoring.States) -> Any:
    """As `Scorer.begin`: a state for each pass, and the number of passes over chunks so far."""
    begin, each = super().begin, len(states) // self.passes
    return [begin(states[i:i + each]) for i in range(0, len(states), each)], 0

  def states(self, carry: Any) -> scoring.States:
    """As `Scorer.states`."""
    return super().states(carry[0])

  def score(self, batch: streams.Batch, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`."""
    states, count = carry
    # Pass by pass, because the rows of a batch share some masks, which must differ between passes.
    steps = [runtime.scalar(count + i, tf.int64) for i in range(self.passes)]
    passes = [self._pass(batch, state, step) for state, step in zip(states, steps, strict=True)]
    sums = self._sums([nats for nats, _ in passes], batch.weight)
    return [sums], ([state for _, state in passes], count + self.passes)

  def _one_pass(self, batch: streams.Batch, state: Any, step: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """-> nats [B, T] with one draw of the masks, and the next state."""
    state = self.model.reset(state, batch.reset)
    outputs, state = self.model(batch.tokens[:, :-1], state, Noise(self.seed, step), batch.starts)
    return losses.nats(outputs.logits, batch.tokens[:, 1:]), state

  def _mean_sums(self, passes: list[tf.Tensor], weight: tf.Tensor) -> scoring.Sums:
    """nats [B, T] of each pass, weight [B, T] -> the sum of -log of the mean probability, and of the weights."""
    nats = tf.math.log(float(self.passes)) - tf.reduce_logsumexp(-tf.stack(passes), 0)
    return tf.reduce_sum(nats * weight), tf.reduce_sum(weight)
