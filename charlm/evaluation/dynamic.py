"""Dynamic evaluation: the model learns from the text while it is evaluated on it.

Krause, Kahembwe, Murray and Renals (2018), "Dynamic Evaluation of Neural Sequence Models". A segment of the text is
scored first, and the model learns from it afterwards, so that every token is predicted from the text before it alone:

    W += lambda D (W0 - W) - eta g / (M + epsilon)

    W0       the trained weights
    g        the gradient of the segment's mean loss
    M        the root mean square of such gradients on the training text, one value for each weight
    D        M / mean(M), at most 1 / lambda: weights with large gradients return to W0 faster
    lambda   --dynamic_decay
    eta      --dynamic_learning_rate

The text should be one row. Several rows share their weights, so that the start of the text is also predicted with what
was learned from its middle. Still, no token is learned from before it is scored.
"""
import math
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from charlm.evaluation import scoring
from charlm.network import losses
from charlm.network.model import LanguageModel
from data_pipeline import streams
from data_pipeline.rows import Rows, training_rows
from data_pipeline.token_files import TokenFile
from flags.errors import RunError

EPSILON = 0.1  # epsilon / mean(M), so that it suits any scale of the loss
# The default of eta is RATE / sqrt(number of weights), so that steps are about as long in models of any size. Found
# with 0.2 and 2 million weights: benchmarks/README.md, "Quality".
RATE = 0.04
ROWS = 32  # of training text that M is measured on; the mean of fewer has larger gradients, and would need another eta


class DynamicScorer(scoring.OneDevice):
  """A model that learns while it scores. First call `gather`, at the end `restore`."""

  def __init__(self, model: LanguageModel, *, learning_rate: float, decay: float):
    """model: its weights change. learning_rate: eta; 0 chooses one. decay: lambda."""
    self.model, self.decay = model, decay
    self.weights = model.trainable_variables
    self.start = [tf.identity(w) for w in self.weights]
    self.learning_rate = learning_rate or RATE / math.sqrt(sum(w.shape.num_elements() for w in self.weights))
    self._add_squares = tf.function(self._squares, jit_compile=True, autograph=False)
    self._step = tf.function(self._score_and_learn, jit_compile=True, autograph=False)

  def gather(self, batches: Iterable[streams.Batch], batch_size: int) -> None:
    """Measures M. batches: training text, at least one batch. batch_size: rows of each."""
    carry, squares, count = self.model.initial_state(batch_size), [tf.zeros_like(w) for w in self.weights], 0
    for batch in batches:
      squares, carry = self._add_squares(batch, carry, squares)
      count += 1
    scales = [tf.sqrt(s / count) for s in squares]
    mean = sum(float(tf.reduce_sum(s)) for s in scales) / sum(s.shape.num_elements() for s in scales)
    # Of each weight: lambda D, and eta / (M + epsilon).
    self.pulls = [tf.minimum(self.decay * s / mean, 1.0) for s in scales]
    self.rates = [self.learning_rate / (s + EPSILON * mean) for s in scales]

  def score(self, batch: streams.Batch, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`: scores the segment, then learns from it."""
    sums, carry = self._step(batch, carry)
    return [sums], carry

  def restore(self) -> None:
    """Brings the trained weights back."""
    for weight, start in zip(self.weights, self.start, strict=True):
      weight.assign(start)

  def _gradients(self, batch: streams.Batch, carry: Any) -> tuple[list[tf.Tensor], scoring.Sums, Any]:
    """-> g of each weight, (nats, tokens), the next carry."""
    with tf.GradientTape() as tape:
      outputs, carry = self.model(batch.tokens[:, :-1], self.model.reset(carry, batch.reset), resets=batch.starts)
      nats = tf.reduce_sum(losses.nats(outputs.logits, batch.tokens[:, 1:]) * batch.weight)
      loss = nats / batch.weight.shape.num_elements()
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.weights)]
    return gradients, (nats, tf.reduce_sum(batch.weight)), carry

  def _squares(self, batch: streams.Batch, carry: Any, squares: list[tf.Tensor]) -> tuple[list[tf.Tensor], Any]:
    """-> the sums of squared gradients, with this batch's added; the next carry."""
    gradients, _, carry = self._gradients(batch, carry)
    return [s + tf.square(g) for s, g in zip(squares, gradients, strict=True)], carry

  def _score_and_learn(self, batch: streams.Batch, carry: Any) -> tuple[scoring.Sums, Any]:
    """-> (nats, tokens) before the update, the next carry."""
    gradients, sums, carry = self._gradients(batch, carry)
    for weight, start, pull, rate, g in zip(self.weights, self.start, self.pulls, self.rates, gradients, strict=True):
      weight.assign_add(pull * (start - weight) - rate * g)
    return sums, carry


def accumulate(scorer: DynamicScorer, batches: Iterable[streams.Batch], rows: Rows,
               show: scoring.Show = iter) -> tuple[float, int]:
  """As `scoring.accumulate`, but no text is read again, as the model has learned from it.

  Several rows begin in the states that the trained weights come to in the text before them.
  """
  begins, chunks = scorer.initial_states(rows.batch_size), []
  if rows.filled > 1:
    _, begins = scoring.settle(scoring.PlainScorer(scorer.model), batches, rows)
  carry = scorer.begin(begins)
  for batch in show(batches):
    sums, carry = scorer.score(batch, carry)
    chunks.append(sums)
  return scoring.add_up(chunks)


def score_file(scorer: DynamicScorer, file: TokenFile, *, batch_size: int, length: int,
               progress: scoring.Progress | None = None) -> tuple[float, int]:
  """As `scoring.score_file`, and leaves the model as it was. Raises RunError where the loss is not finite."""
  length = min(length, file.num_tokens - 1)
  rows = scoring.rows_of(file, batch_size, length)
  try:
    nats, tokens = accumulate(scorer, scoring.stream(file, rows, length), rows, scoring.shown(progress, rows, length))
  finally:
    scorer.restore()
  if not math.isfinite(nats):
    raise RunError(f'the loss is {nats} nats: the model has unlearned all it knew. Try a lower '
                   '--dynamic_learning_rate, or a longer --dynamic_length')
  return nats, tokens


def training_batches(file: TokenFile, batch_size: int, length: int, steps: int) -> tuple[tf.data.Dataset, int]:
  """The training text that M is measured on.

  Args:
    file: the training split.
    batch_size: rows.
    length: tokens in a chunk.
    steps: how many chunks of each row; at most one pass over the text.

  Returns:
    The batches, and their number.
  """
  rows = training_rows(file.num_tokens, batch_size)
  batches = streams.training_stream(streams.mapped(file), rows, length=length, stride=length,
                                    starts=streams.mapped_starts(file))
  steps = min(steps, rows.steps(length=length, stride=length))
  return batches.take(steps), steps
