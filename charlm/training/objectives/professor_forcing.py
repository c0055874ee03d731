"""Professor forcing: the model's behaviour on its own samples is to look like its behaviour on true text.

Goyal, Lamb, Zhang, Zhang, Courville, Bengio (2016), "Professor Forcing: A New Algorithm for Training Recurrent
Networks". A discriminator D says how likely a behaviour is that of a teacher-forced stretch. It sees the outputs of all
recurrent layers and the probabilities of the next token, step by step. The losses, each a mean over stretches:

    C_d = -log D(teacher) - log(1 - D(free))     the discriminator's, while it is right less often than 99%
    C_f = -log D(free)                           the model's, beside its own loss, while D is right more than 75%
    C_t = -log(1 - D(teacher))                   the same, under --professor_forcing_teacher

Both behaviours set out from the same states, and nothing is dropped in either, so that they differ only in what is
read. Gradients reach the model through outputs and probabilities, not through the samples. How often D is right is
measured in each step that has whole stretches, over all replicas, and decides on the next step.
"""
import itertools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from charlm.network import layers
from charlm.network.backend.base import Backend
from charlm.network.backend.native import NativeBackend
from charlm.network.backend.xla import XlaBackend
from charlm.network.dropout import Dropout
from charlm.network.model import LanguageModel
from charlm.training.objectives.base import ForwardPass, Objective
from charlm.training.objectives.multi_step import SelfFeeding
from flags.network import ModelConfig
from flags.training import TrainConfig

UNITS = 64  # of each direction, and of the layer after them
CONVINCED, USEFUL = 0.99, 0.75  # shares of right verdicts


class Behaviours(NamedTuple):
  """Of R stretches of K steps: outputs of all recurrent layers and probabilities, side by side, [K, R, L H + V]."""
  teacher: tf.Tensor
  free: tf.Tensor
  weight: tf.Tensor  # [R] float32: 0 for stretches that do not count


def behaviours(teacher: tuple, free: tuple, weight: tf.Tensor) -> Behaviours:
  """teacher, free: logits and outputs, as from `rollout.run`; weight [R] -> Behaviours."""
  both = [tf.concat([outputs, tf.nn.softmax(logits)], -1) for logits, outputs in (teacher, free)]
  return Behaviours(*both, weight)


class Discriminator(tf.Module):
  """A recurrent layer forwards and one backwards, and two layers on where both end: [K, R, n] -> logits [R] of D."""

  def __init__(self, size: int, seed: int, backend: Backend):
    """size: n."""
    super().__init__('discriminator')
    self._config, self._backend = ModelConfig(units=UNITS, layers=1, initial_state='zeros'), backend
    seeds = itertools.count(seed * 1000 + 500, 10)  # apart from those of the model
    self.directions = [layers.RecurrentLayer([size], self._config, seeds, name) for name in ('forwards', 'backwards')]
    self.hidden, self.verdict = (
        layers.Linear(n, [m], 0.0, next(seeds), name, 'none')
        for name, n, m in (('hidden', 2 * UNITS, UNITS), ('verdict', UNITS, 1)))

  def __call__(self, behaviour: tf.Tensor) -> tf.Tensor:
    """behaviour [K, R, n] -> [R]."""
    ends = []
    for layer, x in zip(self.directions, (behaviour, tf.reverse(behaviour, [0])), strict=True):
      x = layer.projections[0].prepare(self._backend)(x)
      read = layer.prepare(self._backend, Dropout(self._config), 0)
      outputs, _ = read(x, tf.zeros([x.shape[1], UNITS]), None)
      ends.append(outputs[-1])
    hidden, verdict = (layer.prepare(self._backend) for layer in (self.hidden, self.verdict))
    return verdict(tf.tanh(hidden(tf.concat(ends, -1))))[:, 0]


class ProfessorForcing(Objective):
  """The discriminator, its optimizer, and how often it was right."""

  def __init__(self, config: TrainConfig, model: LanguageModel, feeding: SelfFeeding):
    """model: whose outputs are looked at. feeding: with teacher."""
    self.config, self.feeding = config, feeding
    outputs = model.config.layers * model.config.units
    backend = NativeBackend() if isinstance(model.backend, NativeBackend) else XlaBackend()
    self.discriminator = Discriminator(outputs + model.vocab_size, config.seed, backend)
    self.weights = self.discriminator.trainable_variables
    self.optimizer = keras.optimizers.Adam(name='discriminator')
    self.optimizer.build(self.weights)
    self.accuracy = tf.Variable(0.5, trainable=False, name='accuracy',
                                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)  # it is the same in all

  @property
  def variables(self) -> list:
    """As `Objective.variables`."""
    return [*self.weights, *self.optimizer.variables, self.accuracy]

  def before_step(self) -> None:
    """Whether the discriminator learns from the step depends on how often it was right in the one before."""
    rate = tf.where(self.accuracy < CONVINCED, self.config.discriminator_learning_rate, 0.0)
    self.optimizer.learning_rate.assign(rate)

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`: a stretch counts as much as each of its tokens in the loss of the text."""
    return self.config.multi_step * self.loss(self._seen(forward)), {}

  def _seen(self, forward):
    fed = forward.once(self.feeding)
    whole = tf.cast(tf.reduce_all(fed.rollouts.weight > 0, 0), tf.float32)
    return behaviours(fed.teacher, fed.own, whole)

  def loss(self, seen: Behaviours) -> tf.Tensor:
    """What the model is to learn, C_f and maybe C_t, in nats, summed over stretches; 0 where it is not to."""
    losses = tf.nn.softplus(-self.discriminator(seen.free))
    if self.config.professor_forcing_teacher:
      losses += tf.nn.softplus(self.discriminator(seen.teacher))
    share = tf.where(self.accuracy > USEFUL, self.config.professor_forcing, 0.0)
    return share * tf.tensordot(losses, seen.weight, 1)

  def own_gradients(self, forward: ForwardPass) -> Any:
    """As `Objective.own_gradients`."""
    return self.gradients(self._seen(forward))

  def gradients(self, seen: Behaviours) -> tuple:
    """-> gradients of C_d, summed over stretches, for `weights`; how many verdicts were right, and how many there were.

    With a tape of its own, which comes after that of the model: XLA cannot compile loops that two tapes watch.
    """
    with tf.GradientTape() as tape:
      teacher, free = tf.split(self.discriminator(tf.concat([seen.teacher, seen.free], 1)), 2)
      loss = tf.tensordot(tf.nn.softplus(-teacher) + tf.nn.softplus(free), seen.weight, 1)
    right = tf.cast(teacher > 0, tf.float32) + tf.cast(free < 0, tf.float32)
    return tape.gradient(loss, self.weights), tf.tensordot(right, seen.weight, 1), 2 * tf.reduce_sum(seen.weight)

  def learn(self, summed: Any, replicas: int) -> dict[str, tf.Tensor]:
    """As `Objective.learn`; reports `discriminator_accuracy`, how often it was right."""
    gradients, right, verdicts = summed
    # Keras adds up what the replicas hand it, which is the same in all.
    stretches = tf.maximum(verdicts / 2, 1.0)
    self.optimizer.apply([g / stretches / replicas for g in gradients], self.weights)
    self.accuracy.assign(tf.where(verdicts > 0, right / tf.maximum(verdicts, 1.0), self.accuracy))
    return {'discriminator_accuracy': self.accuracy.read_value()}
