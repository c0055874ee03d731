"""Monte Carlo dropout: what a model with dropout believes on average.

Gal and Ghahramani (2016), "Dropout as a Bayesian Approximation" and "A Theoretically Grounded Application of Dropout
in Recurrent Neural Networks": each pass over the text draws its own masks and carries its own state; the
probabilities of the passes are averaged, token by token, and the loss is -log of the mean.
"""
import copy
import dataclasses

import numpy as np
import tensorflow as tf

from charlm.network import losses, native


class McDropout:
  """A model with dropout; scores batches as a Learner does."""
  replicas, strategy = 1, tf.distribute.get_strategy()

  def __init__(self, model, *, passes, seed, recurrence='auto'):
    """recurrence: a flag."""
    self.model, self.passes, self.seed = copy.copy(model), passes, seed
    self.model.config = dataclasses.replace(model.config, initial_state='zeros')  # what drops is drawn, and no noise
    self.native_kernels = native.chosen(recurrence, model.config)
    self._pass = tf.function(self._one_pass, jit_compile=True, autograph=False)
    self._sums = tf.function(self._mean_sums, jit_compile=True, autograph=False)

  def evaluate(self, batches, batch_size):
    """-> {'nats': sum, 'tokens': count} over all batches, in float64."""
    carries, sums = [self.model.initial_state(batch_size)] * self.passes, []
    for i, batch in enumerate(batches):
      # Pass by pass, so that masks which the rows of a batch share differ between passes, too.
      seeds = [tf.constant([self.seed, i * self.passes + p]) for p in range(self.passes)]
      passes = [self._pass(batch, carry, seed) for carry, seed in zip(carries, seeds, strict=True)]
      carries = [carry for carry, _ in passes]
      sums.append(self._sums([nats for _, nats in passes], batch.weight))
    nats, tokens = np.sum(np.array(sums, np.float64), 0)
    return {'nats': float(nats), 'tokens': int(tokens)}

  def _one_pass(self, batch, carry, seed):
    """-> carry, nats [B, T] under one draw of the masks."""
    logits, _, carry = self.model(batch.tokens[:, :-1], self.model.reset(carry, batch.reset), training=True, seed=seed,
                                  native_kernels=self.native_kernels, starts=batch.starts)
    return carry, losses.nats(logits, batch.tokens[:, 1:])

  def _mean_sums(self, passes, weight):
    """nats [B, T] of each pass -> sum of -log of the mean probability, count."""
    nats = tf.math.log(float(self.passes)) - tf.reduce_logsumexp(-tf.stack(passes), 0)
    return tf.reduce_sum(nats * weight), tf.reduce_sum(weight)
