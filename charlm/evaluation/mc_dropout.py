"""Monte Carlo dropout: what a model with dropout believes on average.

Gal and Ghahramani (2016), "Dropout as a Bayesian Approximation" and "A Theoretically Grounded Application of Dropout
in Recurrent Neural Networks": each pass over the text draws its own masks and carries its own state; the
probabilities of the passes are averaged, token by token, and the loss is -log of the mean.
"""
import copy
import dataclasses
from typing import Any

import tensorflow as tf

from charlm.evaluation import scoring
from charlm.network import losses
from charlm.network.dropout import Noise
from charlm.network.model import LanguageModel
from data_pipeline import streams


class McDropoutScorer(scoring.OneDevice):
  """The mean of the probabilities of several passes, each with dropout of its own."""

  def __init__(self, model: LanguageModel, *, passes: int, seed: int):
    self.model, self.passes, self.seed = copy.copy(model), passes, seed
    self.model.backend = model.backend.forward_only()
    self.model.config = dataclasses.replace(model.config, initial_state='zeros')  # its noise is for training
    self._pass = tf.function(self._one_pass, jit_compile=True, autograph=False)
    self._sums = tf.function(self._mean_sums, jit_compile=True, autograph=False)

  def initial_carry(self, rows: int) -> Any:
    """As `Scorer.initial_carry`: a state for each pass, and how many passes over a chunk were made."""
    return [self.model.initial_state(rows)] * self.passes, 0

  def score(self, batch: streams.Batch, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`."""
    states, made = carry
    # Pass by pass, so that masks which the rows of a batch share differ between passes, too.
    steps = [tf.constant(made + i, tf.int64) for i in range(self.passes)]
    passes = [self._pass(batch, state, step) for state, step in zip(states, steps, strict=True)]
    sums = self._sums([nats for nats, _ in passes], batch.weight)
    return [sums], ([state for _, state in passes], made + self.passes)

  def _one_pass(self, batch, state, step):
    """-> nats [B, T] under one draw of the masks, the next state."""
    state = self.model.reset(state, batch.reset)
    outputs, state = self.model(batch.tokens[:, :-1], state, Noise(self.seed, step), batch.starts)
    return losses.nats(outputs.logits, batch.tokens[:, 1:]), state

  def _mean_sums(self, passes, weight):
    """nats [B, T] of each pass -> sum of -log of the mean probability, count."""
    nats = tf.math.log(float(self.passes)) - tf.reduce_logsumexp(-tf.stack(passes), 0)
    return tf.reduce_sum(nats * weight), tf.reduce_sum(weight)
