"""Training steps and an evaluation pass, compiled, under a tf.distribute strategy."""
import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.network import losses, runtime
from charlm.network.dropout import Noise
from charlm.network.model import LanguageModel
from charlm.training import clipping, optimizer, schedule
from charlm.training.distribution import Distribution
from charlm.training.objectives import terms
from charlm.training.objectives.base import ForwardPass
from data_pipeline.streams import Batch
from flags.data import DataConfig
from flags.training import TrainConfig


class StepDecisions(NamedTuple):
  """What a step is told; the same for all replicas."""
  progress: float = 0.0  # share of the run that is done, 0 to 1, which schedules follow
  rate_scale: float = 1.0  # what plateaus have left of the learning rate
  average_share: float = 1.0  # share of the new weights in the average of --average


class Learner:
  """Trains a model that was made under the scope of the distribution's strategy.

  The carry is the recurrent state: a nest of [rows of a replica, H], an argument and a result of every step.

  Attributes:
    model: the one that is trained.
    evaluated: the model to evaluate, keep and use: `model` or, under --average, a copy of it that holds the average
      of its weights.
  """

  def __init__(self, model: LanguageModel, config: TrainConfig, data: DataConfig, distribution: Distribution):
    """config, data: of the run; `data` has the rows of all replicas, the chunks and their overlap."""
    self.model, self.config, self.distribution = model, config, distribution
    self.batch_size, self.longest, self.overlap = data.batch_size, max(data.lengths), data.chunk_overlap
    self.evaluated = model
    with distribution.strategy.scope():
      self.optimizer = optimizer.make_optimizer(config, model.trainable_variables)
      self.clip = clipping.Clipper(config)
      self.objectives = terms.objectives(config, model)
      if config.average != 'none':
        self.evaluated = copy.deepcopy(model)
    # With one replica the whole step is one XLA program. Reducing over replicas and updating mirrored variables
    # cannot be compiled, so with several only the gradient, which is nearly all of the work, is. For TPUs TensorFlow
    # itself compiles all that the strategy runs.
    self._gradients = tf.function(self._replica_gradients, jit_compile=True, autograph=False)
    alone = distribution.replicas == 1 and not distribution.on_tpu
    self._step = tf.function(self._train, jit_compile=alone, autograph=False)
    self._steps = tf.function(self._train_several, jit_compile=alone, autograph=False)

  @property
  def variables(self) -> list:
    """What a step depends on and changes beside the models and the carry."""
    own = [v for objective in self.objectives for v in objective.variables]
    return [*self.optimizer.variables, *self.clip.variables, *own]

  def initial_carry(self) -> Any:
    """The state of all rows where text begins."""
    return self.split_carry([np.zeros([self.batch_size, *s.shape[1:]], 'float32')
                             for s in tf.nest.flatten(self.model.initial_state(1))])

  def split_carry(self, arrays: list[np.ndarray]) -> Any:
    """Arrays [B, H] of all rows -> what `step` takes. The opposite of `join_carry`."""
    return self.distribution.split(arrays, self.model.initial_state(1))

  def join_carry(self, carry: Any) -> list[np.ndarray]:
    """What `step` returned -> arrays [B, H] of all rows."""
    return self.distribution.join(carry)

  def step(self, batch: Batch, carry: Any, decisions: StepDecisions) -> tuple[dict[str, tf.Tensor], Any]:
    """Trains on one chunk of every row.

    Args:
      batch: tokens [B, T+1], reset [B], weight [B, T]; per replica where there are several.
      carry: the state before the chunk.
      decisions: what the step is told.

    Returns:
      metrics: `nats` (sum), `tokens` (count), `gradient_norm` (before clipping), `learning_rate`, and what the
      objectives report; scalar tensors over all replicas. And the carry after S = T - overlap tokens.
    """
    metrics, carry = self._step(batch, carry, StepDecisions(*map(runtime.scalar, decisions)))
    return self._first(metrics), carry

  def steps(self, batches: Sequence[Batch], carry: Any,
            decisions: Sequence[StepDecisions]) -> tuple[dict[str, tf.Tensor], Any]:
    """Trains on several chunks of every row, one after the other, in one call: as so many calls of `step`.

    An accelerator then does not wait for Python between steps.

    Args:
      batches: of one length.
      carry: the state before the first chunk.
      decisions: what each step is told.

    Returns:
      As `step`, with metrics [K] of K steps.
    """
    told = tuple(tf.constant(np.array(x, np.float32)) for x in zip(*decisions, strict=True))
    metrics, carry = self._steps(tuple(batches), carry, told)
    return self._first(metrics), carry

  def _first(self, metrics: dict[str, Any]) -> dict[str, tf.Tensor]:
    """The metrics of the first replica, which are the same in all."""
    return {name: self.distribution.values(value)[0] for name, value in metrics.items()}

  def _train_several(self, batches: tuple[Batch, ...], carry: Any,
                     decisions: tuple[tf.Tensor, ...]) -> tuple[dict[str, Any], Any]:
    """As `steps`. decisions: each of StepDecisions, [K]."""
    run = self.distribution.strategy.run
    stacked = run(lambda *b: Batch(*(None if x[0] is None else tf.stack(x) for x in zip(*b, strict=True))), batches)

    def step(k: tf.Tensor, carry: Any, collected: dict[str, tf.TensorArray]) -> tuple:
      batch = run(lambda b: Batch(*(None if x is None else x[k] for x in b)), (stacked,))
      metrics, carry = self._train(batch, carry, StepDecisions(*(d[k] for d in decisions)))
      metrics = self._first(metrics)
      return k + 1, carry, {name: array.write(k, metrics[name]) for name, array in collected.items()}

    names = [*(name for objective in self.objectives for name in objective.reports), 'gradient_norm', 'learning_rate']
    count = len(batches)
    arrays = {name: tf.TensorArray(tf.float32, count, element_shape=[]) for name in names}
    _, carry, collected = tf.while_loop(lambda k, *_: k < count, step, (tf.constant(0), carry, arrays),
                                        maximum_iterations=count)
    return {name: array.stack() for name, array in collected.items()}, carry

  def _train(self, batch: Batch, carry: Any, decisions: StepDecisions) -> tuple[dict[str, Any], Any]:
    step = self.optimizer.iterations.value
    rate = schedule.learning_rate(self.config, step, decisions.progress, decisions.rate_scale)
    self.optimizer.learning_rate.assign(rate)
    for objective in self.objectives:
      objective.before_step()

    def replica_step(batch: Batch, carry: Any) -> tuple[dict[str, tf.Tensor], Any]:
      context = tf.distribute.get_replica_context()
      local, carry = self._gradients(batch, carry, step, context.replica_id_in_sync_group, decisions.progress)
      gradients, own, sums = context.all_reduce('SUM', local)
      for objective, gradient in zip(self.objectives, own, strict=True):
        sums |= objective.learn(gradient)
      gradients, norm = self.clip(gradients, step)
      self.optimizer.apply(gradients, self.model.trainable_variables)
      return {**sums, 'gradient_norm': norm, 'learning_rate': rate}, carry

    result = self.distribution.strategy.run(replica_step, (batch, carry))
    if self.evaluated is not self.model:
      self._average(decisions.average_share)
    return result

  def _average(self, share: tf.Tensor | float) -> None:
    """Moves the evaluated weights towards the trained ones."""
    for average, new in zip(self.evaluated.variables, self.model.variables, strict=True):
      # A sum of two, and not a step towards the new, so that a share of 1 gives the very same bits.
      self.distribution.strategy.extended.update(average, lambda a, n: a.assign((1 - share) * a + share * n),
                                                 args=(new,), group=False)

  def _replica_gradients(self, batch: Batch, carry: Any, step: tf.Tensor, replica: Any,
                         progress: tf.Tensor) -> tuple[tuple[list[tf.Tensor], list[Any], dict[str, tf.Tensor]], Any]:
    """-> (gradients of the model, what each objective learns from, sums) over these rows; the carry."""
    rows, length = batch.weight.shape
    noise = Noise(self.config.seed, step, replica * rows, self.batch_size)
    with tf.GradientTape() as tape:
      state = self.model.reset(carry, batch.reset, noise)
      outputs, _ = self.model(batch.tokens[:, :-1], state, noise, batch.starts)
      nats = losses.nats(outputs.logits, batch.tokens[:, 1:]) * batch.weight
      forward = ForwardPass(self.model, batch, outputs, nats, noise, progress)
      parts, reports = zip(*(objective(forward) for objective in self.objectives), strict=True)
      # Summed over time, so that each token weighs the same in chunks of any length.
      loss = sum(parts[1:], parts[0]) / (self.batch_size * self.longest)
    # Made dense here: slices that leave this function make XLA compile again at every step.
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.model.trainable_variables)]
    own = [objective.own_gradients(forward) for objective in self.objectives]
    sums = {name: value for report in reports for name, value in report.items()}
    carry = tf.nest.map_structure(lambda s: s[length - self.overlap - 1], outputs.states)
    return (gradients, own, sums), carry


class DistributedScorer:
  """A PlainScorer whose rows are spread over replicas."""

  def __init__(self, model: LanguageModel, distribution: Distribution):
    self.replicas, self._distribution = distribution.replicas, distribution
    self._plain = scoring.PlainScorer(model)
    self._score = tf.function(self._on_replicas, autograph=False)

  def batches(self, make: Callable[[Any], tf.data.Dataset]) -> Iterable[Any]:
    """As `Scorer.batches`."""
    return self._distribution.batches(make)

  def initial_states(self, rows: int) -> scoring.States:
    """As `Scorer.initial_states`."""
    return self._plain.initial_states(rows)

  def begin(self, states: scoring.States) -> Any:
    """As `Scorer.begin`."""
    return self._distribution.split(states, self._plain.model.initial_state(1))

  def states(self, carry: Any) -> scoring.States:
    """As `Scorer.states`."""
    return self._distribution.join(carry)

  def score(self, batch: Any, carry: Any) -> tuple[list[scoring.Sums], Any]:
    """As `Scorer.score`."""
    sums, carry = self._score(batch, carry)
    return self._distribution.pairs(sums), carry

  def _on_replicas(self, batch: Any, carry: Any) -> tuple[Any, Any]:
    def on_replica(batch: Batch, carry: Any) -> tuple[scoring.Sums, Any]:
      return self._plain.compiled(batch, carry, tf.distribute.get_replica_context().replica_id_in_sync_group)

    return self._distribution.strategy.run(on_replica, (batch, carry))
