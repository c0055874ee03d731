"""Dynamic evaluation: the model goes on learning from the text that it is judged on.

Krause, Kahembwe, Murray and Renals (2018), "Dynamic Evaluation of Neural Sequence Models". A segment of the text is
scored first and learned from afterwards, so that every token is predicted from the text before it alone:

    W += lambda D (W0 - W) - eta g / (M + epsilon)

W0 are the trained weights, g is the gradient of the segment's mean loss, M (as W) the root mean square of such
gradients on training text, D = M / mean(M), at most 1 / lambda: what the text often asks for is drawn back faster.
The text should be one row. With more, the rows share their weights, so that early text is predicted with what was
learned from the middle of the text, too; no token is learned from before it is scored.
"""
import math

import numpy as np
import tensorflow as tf

from charlm.network import losses, native
from flags.errors import RunError

EPSILON = 0.1  # epsilon over mean(M), so that it suits any scale of the loss
# Of eta, times the root of the number of weights, so that steps are about as long in models of any size; by what is
# best for 0.2 and 2 million weights: benchmarks/README.md, "Quality".
RATE = 0.04
ROWS = 32  # of training text, that M is taken from: gradients of fewer are larger, and would ask for another eta


class Dynamic:
  """A model and the statistics M; scores batches as a Learner does, and leaves the model as it was."""
  replicas, strategy = 1, tf.distribute.get_strategy()

  def __init__(self, model, *, learning_rate, decay, recurrence='auto'):
    """learning_rate: eta; 0 chooses. decay: lambda. recurrence: a flag."""
    self.model, self.decay = model, decay
    self.native_kernels = native.chosen(recurrence, model.config)
    self.weights = model.trainable_variables
    self.start = [tf.identity(w) for w in self.weights]
    self.learning_rate = learning_rate or RATE / math.sqrt(sum(w.shape.num_elements() for w in self.weights))
    self._squares = tf.function(self._add_squares, jit_compile=True, autograph=False)
    self._step = tf.function(self._score_and_learn, jit_compile=True, autograph=False)

  def gather(self, batches, batch_size):
    """Takes M from batches of training text, which must not be none."""
    carry, squares, count = self.model.initial_state(batch_size), [tf.zeros_like(w) for w in self.weights], 0
    for batch in batches:
      carry, squares = self._squares(batch, carry, squares)
      count += 1
    scales = [tf.sqrt(s / count) for s in squares]
    mean = sum(float(tf.reduce_sum(s)) for s in scales) / sum(s.shape.num_elements() for s in scales)
    self.pulls = [tf.minimum(self.decay * s / mean, 1.0) for s in scales]
    self.rates = [self.learning_rate / (s + EPSILON * mean) for s in scales]

  def evaluate(self, batches, batch_size):
    """-> {'nats': sum, 'tokens': count} over all batches, in float64. Raises RunError where they are not finite."""
    carry, sums = self.model.initial_state(batch_size), []
    try:
      for batch in batches:
        carry, part = self._step(batch, carry)
        sums.append(part)
    finally:
      for weight, start in zip(self.weights, self.start, strict=True):
        weight.assign(start)
    nats, tokens = np.sum(np.array(sums, np.float64), 0)
    if not math.isfinite(nats):
      raise RunError(f'the loss is {nats} nats: the model has unlearned all it knew. Try a lower '
                     '--dynamic_learning_rate, or a longer --dynamic_length')
    return {'nats': float(nats), 'tokens': int(tokens)}

  def _gradients(self, batch, carry):
    """-> g, carry, (nats, tokens)."""
    with tf.GradientTape() as tape:
      logits, _, carry = self.model(batch.tokens[:, :-1], self.model.reset(carry, batch.reset),
                                    native_kernels=self.native_kernels, differentiable=True,
                                    starts=batch.starts)
      nats = tf.reduce_sum(losses.nats(logits, batch.tokens[:, 1:]) * batch.weight)
      loss = nats / batch.weight.shape.num_elements()
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.weights)]
    return gradients, carry, (nats, tf.reduce_sum(batch.weight))

  def _add_squares(self, batch, carry, squares):
    gradients, carry, _ = self._gradients(batch, carry)
    return carry, [s + tf.square(g) for s, g in zip(squares, gradients, strict=True)]

  def _score_and_learn(self, batch, carry):
    gradients, carry, sums = self._gradients(batch, carry)
    for weight, start, pull, rate, g in zip(self.weights, self.start, self.pulls, self.rates, gradients, strict=True):
      weight.assign_add(pull * (start - weight) - rate * g)
    return carry, sums
