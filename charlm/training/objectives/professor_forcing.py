"""Professor forcing: the model learns to behave on its own samples as it does on true text.

Goyal, Lamb, Zhang, Zhang, Courville, Bengio (2016), "Professor Forcing: A New Algorithm for Training Recurrent
Networks". The behaviour of the model in a rollout is the outputs of all its recurrent layers and its probabilities of
the next token, step by step. Each rollout is run twice: on the true text (teacher-forced) and on samples
(free-running). A discriminator D says how likely it is that a behaviour is teacher-forced. The losses, each a mean over
rollouts:

    C_d = -log D(teacher) - log(1 - D(free))     the discriminator learns it while its accuracy is below 99%
    C_f = -log D(free)                           is added to the model's loss while D's accuracy is above 75%
    C_t = -log(1 - D(teacher))                   the same, with --professor_forcing_teacher

Both runs begin with the same states, and have no dropout, so that they differ only in the tokens that the model reads.
Gradients reach the model through outputs and probabilities, not through the choice of samples. The accuracy of D is
measured over all replicas, in each training step that has whole rollouts, and holds for the next step.
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
from charlm.training import optimizer
from charlm.training.objectives.base import ForwardPass, Objective
from charlm.training.objectives.multi_step import SelfFeeding
from flags.network import ModelConfig
from flags.training import TrainConfig

UNITS = 64  # of each direction, and of the layer after them
MAX_ACCURACY = 0.99  # from here on the discriminator does not learn
MIN_ACCURACY = 0.75  # up to here the model does not learn from the discriminator


class Behaviours(NamedTuple):
  """Of R rollouts of K steps: outputs of all recurrent layers and probabilities, side by side, [K, R, L H + V]."""
  teacher: tf.Tensor
  free: tf.Tensor
  weight: tf.Tensor  # [R] float32: 0 for rollouts that do not count


def behaviours(teacher: tuple, free: tuple, weight: tf.Tensor) -> Behaviours:
  """Joins the results of rollouts.

  Args:
    teacher: logits and outputs, as from `rollout.run`, on the true tokens.
    free: the same on samples.
    weight: [R] float32, 0 for rollouts that do not count.
  """
  def join(logits: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.concat([outputs, tf.nn.softmax(logits)], -1)

  return Behaviours(join(*teacher), join(*free), weight)


class Discriminator(tf.Module):
  """Tells teacher-forced from free-running behaviour.

  One recurrent layer reads the behaviour forwards and one backwards; two feed-forward layers read their last outputs.
  """

  def __init__(self, size: int, seed: int, backend: Backend):
    """size: n of the behaviours. seed: of the first weights. backend: computes the layers."""
    super().__init__('discriminator')
    self._config, self._backend = ModelConfig(units=UNITS, layers=1, initial_state='zeros'), backend
    seeds = itertools.count(seed * 1000 + 500, 10)  # apart from those of the model
    self.directions = [layers.RecurrentLayer([size], self._config, seeds, name) for name in ('forwards', 'backwards')]
    self.hidden, self.verdict = (
        layers.Linear(n, [m], 0.0, next(seeds), name, 'none')
        for name, n, m in (('hidden', 2 * UNITS, UNITS), ('verdict', UNITS, 1)))

  def __call__(self, behaviour: tf.Tensor) -> tf.Tensor:
    """behaviour [K, R, n] -> [R], log(D / (1 - D)): above 0 where it looks teacher-forced."""
    ends = []
    for layer, x in zip(self.directions, (behaviour, tf.reverse(behaviour, [0])), strict=True):
      x = layer.projections[0].prepare(self._backend)(x)
      read = layer.prepare(self._backend, Dropout(self._config), 0)
      outputs, _ = read(x, tf.zeros([x.shape[1], UNITS]), None)
      ends.append(outputs[-1])
    hidden, verdict = (layer.prepare(self._backend) for layer in (self.hidden, self.verdict))
    return verdict(tf.tanh(hidden(tf.concat(ends, -1))))[:, 0]


class ProfessorForcing(Objective):
  """The discriminator, its optimizer, and its accuracy in the last training step."""
  reports = 'discriminator_accuracy',

  def __init__(self, config: TrainConfig, model: LanguageModel, feeding: SelfFeeding):
    """config: with the flags of --professor_forcing. model: what is trained. feeding: runs rollouts, with_teacher."""
    self.config, self.feeding = config, feeding
    outputs = model.config.layers * model.config.units
    xla = model.backend if isinstance(model.backend, XlaBackend) else None
    backend = XlaBackend(platform=xla.platform) if xla else NativeBackend()
    self.discriminator = Discriminator(outputs + model.vocab_size, config.seed, backend)
    self.weights = self.discriminator.trainable_variables
    self.optimizer = optimizer.summed_already(keras.optimizers.Adam(name='discriminator'))
    self.optimizer.build(self.weights)
    self.accuracy = tf.Variable(0.5, trainable=False, name='accuracy',
                                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)  # it is the same in all

  @property
  def variables(self) -> list:
    """As `Objective.variables`."""
    return [*self.weights, *self.optimizer.variables, self.accuracy]

  def before_step(self) -> None:
    """As `Objective.before_step`: sets whether the discriminator learns, by its accuracy in the step before."""
    rate = tf.where(self.accuracy < MAX_ACCURACY, self.config.discriminator_learning_rate, 0.0)
    self.optimizer.learning_rate.assign(rate)

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`. The loss is per rollout, and a rollout counts as much as its K tokens."""
    return self.config.multi_step * self.loss(self._behaviours(forward)), {}

  def _behaviours(self, forward: ForwardPass) -> Behaviours:
    """Those of a chunk. Only whole rollouts count."""
    made = forward.once(self.feeding)
    whole = tf.cast(tf.reduce_all(made.rollouts.weight > 0, 0), tf.float32)
    return behaviours(made.teacher_forced, made.self_fed, whole)

  def loss(self, seen: Behaviours) -> tf.Tensor:
    """The model's loss: C_f, and C_t if asked for, in nats, summed over rollouts; 0 while D's accuracy is too low."""
    losses = tf.nn.softplus(-self.discriminator(seen.free))
    if self.config.professor_forcing_teacher:
      losses += tf.nn.softplus(self.discriminator(seen.teacher))
    share = tf.where(self.accuracy > MIN_ACCURACY, self.config.professor_forcing, 0.0)
    return share * tf.tensordot(losses, seen.weight, 1)

  def own_gradients(self, forward: ForwardPass) -> Any:
    """As `Objective.own_gradients`."""
    return self.gradients(self._behaviours(forward))

  def gradients(self, seen: Behaviours) -> tuple:
    """Computes what the discriminator learns from.

    It has a tape of its own, which comes after that of the model: XLA cannot compile loops that two tapes watch.

    Returns:
      Gradients of C_d, summed over rollouts, for `weights`; how many verdicts were right; how many there were.
    """
    with tf.GradientTape() as tape:
      teacher, free = tf.split(self.discriminator(tf.concat([seen.teacher, seen.free], 1)), 2)
      loss = tf.tensordot(tf.nn.softplus(-teacher) + tf.nn.softplus(free), seen.weight, 1)
    right = tf.cast(teacher > 0, tf.float32) + tf.cast(free < 0, tf.float32)
    return tape.gradient(loss, self.weights), tf.tensordot(right, seen.weight, 1), 2 * tf.reduce_sum(seen.weight)

  def learn(self, summed: Any) -> dict[str, tf.Tensor]:
    """As `Objective.learn`; reports `discriminator_accuracy`, the share of verdicts that were right."""
    gradients, right, verdicts = summed
    rollouts = tf.maximum(verdicts / 2, 1.0)
    self.optimizer.apply([g / rollouts for g in gradients], self.weights)
    self.accuracy.assign(tf.where(verdicts > 0, right / tf.maximum(verdicts, 1.0), self.accuracy))
    return {'discriminator_accuracy': self.accuracy.read_value()}
