"""Keras optimizers by name, their constants, and weight decay."""
import re

import numpy as np
import pytest
import tensorflow as tf

from charlm.training import optimizer
from charlm.workdir.variables import collect, restore
from flags.errors import UserError
from flags.training import TrainConfig


@pytest.mark.parametrize('name', ['AdamW', *sorted(optimizer.optimizers())])
def test_keras_optimizers_by_name(name):
  variable = tf.Variable([1.0, -1.0])
  one = optimizer.make_optimizer(TrainConfig(optimizer=name), [variable])
  assert type(one).__name__.lower() == name.lower()
  one.apply([tf.constant([0.5, 0.5])], [variable])
  assert (variable.numpy() != [1.0, -1.0]).all()


@pytest.mark.parametrize('name,decay', [(name, 0.5) for name in sorted(optimizer.optimizers())
                                        if name != 'ftrl'] + [('adamw', 0.0)])
def test_weight_decay_shrinks_matrices_before_each_step(name, decay):
  """Decoupled: the twin has none, and loses the share, times the rate, by hand. adamw has one of its own."""
  def steps(own, by_hand):
    random = np.random.default_rng(0)
    variables = [tf.Variable(random.normal(size=[3, 4]).astype(np.float32), name='kernel'),
                 tf.Variable(random.normal(size=[4]).astype(np.float32), name='gain')]
    one = optimizer.make_optimizer(TrainConfig(optimizer=name, weight_decay=own), variables)
    if by_hand:
      one.weight_decay = 0.0
    for rate in (0.1, 0.05, 0.02):
      one.learning_rate.assign(rate)
      variables[0].assign(variables[0] * (1 - by_hand * rate))
      one.apply([tf.constant(random.normal(size=v.shape), tf.float32) for v in variables], variables)
    return [v.numpy() for v in variables]

  for a, b in zip(steps(decay, 0.0), steps(0.0, decay or 0.004), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert np.abs(steps(0.9, 0.0)[0] - steps(decay, 0.0)[0]).max() > 1e-3


def test_an_unknown_optimizer_is_named():
  with pytest.raises(UserError, match=r'--optimizer=adom: expected one of .*adam'):
    optimizer.make_optimizer(TrainConfig(optimizer='adom'), [])


def test_constants_are_those_of_the_optimizer():
  """Momentum, by hand; its velocity is a variable, as checkpoints hold those."""
  variable = tf.Variable([1.0, -1.0])
  config = TrainConfig(optimizer='sgd', optimizer_constants='momentum=0.5, nesterov=True')
  one = optimizer.make_optimizer(config, [variable])
  one.learning_rate.assign(0.1)
  value, velocity, gradient = np.array([1.0, -1.0]), 0.0, np.array([0.5, 2.0])
  for _ in range(3):
    one.apply([tf.constant(gradient, tf.float32)], [variable])
    velocity = 0.5 * velocity - 0.1 * gradient
    value = value + 0.5 * velocity - 0.1 * gradient
  np.testing.assert_allclose(variable, value, rtol=1e-6)
  assert any(v.shape == [2] and np.allclose(v, velocity) for v in one.variables)


@pytest.mark.parametrize('name', sorted(optimizer.optimizers()))
def test_each_optimizer_goes_on_from_what_a_checkpoint_has_of_it(name):
  random = np.random.default_rng(0)
  gradients = [[tf.constant(random.normal(size=shape), tf.float32) for shape in ((3, 2), (2,))] for _ in range(4)]

  def make():
    variables = [tf.Variable(tf.ones([3, 2]), name='kernel'), tf.Variable(tf.ones([2]), name='bias')]
    one = optimizer.make_optimizer(TrainConfig(optimizer=name, weight_decay=0.1 * (name != 'ftrl')), variables)
    one.learning_rate.assign(0.1)
    return variables, one, one.variables

  variables, one, own = make()
  for g in gradients[:3]:
    one.apply(g, variables)
  saved = collect('model', variables) | collect('optimizer', own)
  one.apply(gradients[3], variables)
  again, other, its = make()
  restore('model', again, saved)
  restore('optimizer', its, saved)
  other.apply(gradients[3], again)
  for a, b in zip(variables + own, again + its, strict=True):
    np.testing.assert_array_equal(a, b)


def test_constants_may_be_whole_numbers():
  assert optimizer.choose_optimizer(TrainConfig(optimizer='sgd', optimizer_constants='momentum=0')).momentum == 0.0


@pytest.mark.parametrize('name,constants', [
    ('adam', 'momentum=0.9'), ('sgd', 'momentum'), ('sgd', 'momentum='), ('sgd', 'momentum=high'),
    ('sgd', 'momentum=true'), ('sgd', 'nesterov=1'), ('sgd', 'momentum=7'), ('sgd', '0.9'), ('sgd', 'learning_rate=1'),
    ('adam', 'weight_decay=0.1'), ('adam', 'use_ema=true'), ('sgd', 'momentum=[0.9]'), ('rmsprop', 'momentum=null'),
    ('rmsprop', 'momentum=[0.9]'), ('rmsprop', 'momentum=7'), ('rmsprop', 'rho="x"'), ('adam', 'beta_1=1'),
    ('adam', 'beta_2=-0.1'), ('adam', 'epsilon=nan'), ('adam', 'amsgrad=0'),
    ('muon', 'ns_steps=0'), ('muon', 'adam_beta_1=1'), ('muon', 'use_ema=true')])
def test_constants_that_it_does_not_take_are_named(name, constants):
  with pytest.raises(UserError, match=rf'--optimizer_constants={re.escape(constants)}: expected .* of \w+=[\d.]+'):
    optimizer.choose_optimizer(TrainConfig(optimizer=name, optimizer_constants=constants))
