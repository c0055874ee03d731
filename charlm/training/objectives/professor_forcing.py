"""Professor forcing: the model's behaviour on its own samples is to look like its behaviour on true text.

Goyal, Lamb, Zhang, Zhang, Courville, Bengio (2016), "Professor Forcing: A New Algorithm for Training Recurrent
Networks". A discriminator D says how likely a behaviour is that of a teacher-forced stretch: the outputs of all
recurrent layers and the probabilities of the next token, step by step. Losses, each a mean over stretches:

    C_d = -log D(teacher) - log(1 - D(free))     the discriminator's, while it is right less often than 99%
    C_f = -log D(free)                           the model's, beside its own loss, while D is right more than 75%
    C_t = -log(1 - D(teacher))                   the same, under --professor_forcing_teacher

Both behaviours set out from the same states, and nothing is dropped in either, so that they differ in what is read
alone. Gradients reach the model through outputs and probabilities, not through the samples. How often D is right is
measured on each step that has whole stretches, over all replicas, and decides on the next one.
"""
import itertools
from typing import NamedTuple

import keras
import tensorflow as tf

from charlm.network import dropout, layers, native
from flags.network import ModelConfig
from flags.training import TrainConfig

UNITS = 64  # of each direction, and of the layer after them
CONVINCED, USEFUL = 0.99, 0.75  # shares of right verdicts


class Behaviours(NamedTuple):
  """Of R stretches of K steps: outputs of all recurrent layers and probabilities, side by side, [K, R, L H + V]."""
  teacher: tf.Tensor
  free: tf.Tensor
  weight: tf.Tensor  # [R] float32: 0 for stretches that do not count


def behaviours(teacher, free, weight):
  """teacher, free: logits and outputs, as from `multi_step.run`; weight [R] -> Behaviours."""
  return Behaviours(*(tf.concat([outputs, tf.nn.softmax(logits)], -1) for logits, outputs in (teacher, free)), weight)


class Discriminator(tf.Module):
  """A recurrent layer forwards and one backwards, and two layers on where both end: [K, R, n] -> logits [R] of D."""

  def __init__(self, size, seed, recurrence):
    """size: n. recurrence: a flag."""
    super().__init__('discriminator')
    self._config = ModelConfig(units=UNITS, layers=1, initial_state='zeros')
    self._how = {'native_kernels': native.chosen(recurrence, self._config), 'differentiable': True}
    seeds = itertools.count(seed * 1000 + 500, 10)  # apart from those of the model
    self.directions = [layers.RecurrentLayer([size], self._config, seeds, name) for name in ('forwards', 'backwards')]
    self.hidden, self.verdict = (
        layers.Map(n, [m], 0.0, next(seeds), name, 'float32', 'none')
        for name, n, m in (('hidden', 2 * UNITS, UNITS), ('verdict', UNITS, 1)))

  def __call__(self, behaviour):
    calm, ends = dropout.Draws(self._config, None, training=False), []
    for layer, x in zip(self.directions, (behaviour, tf.reverse(behaviour, [0])), strict=True):
      x = layer.input_maps[0](x, **self._how)
      outputs, _ = layer(x, tf.zeros([x.shape[1], UNITS]), calm, 0, **self._how)
      ends.append(outputs[-1])
    return self.verdict(tf.tanh(self.hidden(tf.concat(ends, -1))))[:, 0]


class Professor:
  """The discriminator, its optimizer, and how often it was right."""

  def __init__(self, config: TrainConfig, model, recurrence):
    """For a LanguageModel. recurrence: a flag."""
    self.config = config
    outputs = model.config.layers * model.config.units
    self.discriminator = Discriminator(outputs + model.vocab_size, config.seed, recurrence)
    self.weights = self.discriminator.trainable_variables
    self.optimizer = keras.optimizers.Adam(name='discriminator')
    self.optimizer.build(self.weights)
    self.accuracy = tf.Variable(0.5, trainable=False, name='accuracy',
                                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)  # it is the same in all

  @property
  def variables(self):
    """All that a step depends on and changes."""
    return [*self.weights, *self.optimizer.variables, self.accuracy]

  def prepare(self):
    """Before a step: whether the discriminator learns from it."""
    rate = tf.where(self.accuracy < CONVINCED, self.config.discriminator_learning_rate, 0.0)
    self.optimizer.learning_rate.assign(rate)

  def loss(self, seen: Behaviours):
    """What the model is to learn, C_f and maybe C_t, in nats, summed over stretches; 0 where it is not to."""
    losses = tf.nn.softplus(-self.discriminator(seen.free))
    if self.config.professor_forcing_teacher:
      losses += tf.nn.softplus(self.discriminator(seen.teacher))
    share = tf.where(self.accuracy > USEFUL, self.config.professor_forcing, 0.0)
    return share * tf.tensordot(losses, seen.weight, 1)

  def gradients(self, seen: Behaviours):
    """-> gradients of C_d, summed over stretches, for `weights`; how many verdicts were right, and how many there were.

    With a tape of its own, which comes after that of the model: XLA cannot compile loops that two tapes watch.
    """
    with tf.GradientTape() as tape:
      teacher, free = tf.split(self.discriminator(tf.concat([seen.teacher, seen.free], 1)), 2)
      loss = tf.tensordot(tf.nn.softplus(-teacher) + tf.nn.softplus(free), seen.weight, 1)
    right = tf.cast(teacher > 0, tf.float32) + tf.cast(free < 0, tf.float32)
    return tape.gradient(loss, self.weights), tf.tensordot(right, seen.weight, 1), 2 * tf.reduce_sum(seen.weight)

  def learn(self, gradients, right, judged, replicas):
    """In each replica: one step on gradients of the sum over all replicas -> how often the discriminator was right."""
    # Keras adds up what the replicas hand it, which is the same in all.
    stretches = tf.maximum(judged / 2, 1.0)
    self.optimizer.apply([g / stretches / replicas for g in gradients], self.weights)
    self.accuracy.assign(tf.where(judged > 0, right / tf.maximum(judged, 1.0), self.accuracy))
    return self.accuracy.read_value()
