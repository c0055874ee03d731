"""Schedules, weight decay and clipping against their arithmetic by hand."""
import math
import re

import numpy as np
import pytest
import tensorflow as tf

from charlm.training import optimizer
from charlm.workdir import checkpoint
from flags.errors import UserError
from flags.training import TrainConfig


@pytest.mark.parametrize('progress,share', [(0.0, 1.0), (0.5, (1 + 0.1) / 2), (1.0, 0.1), (0.25, None)])
def test_cosine(progress, share):
  config = TrainConfig(learning_rate=0.2, warmup_steps=0, final_fraction=0.1)
  share = 0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2 if share is None else share
  assert float(optimizer.learning_rate(config, 7, tf.constant(progress))) == pytest.approx(0.2 * share, rel=1e-5)


@pytest.mark.parametrize('progress', [0.0, 0.3, 1.0])
def test_linear(progress):
  config = TrainConfig(learning_rate=0.2, warmup_steps=0, schedule='linear', final_fraction=0.1)
  rate = optimizer.learning_rate(config, 7, tf.constant(progress))
  assert float(rate) == pytest.approx(0.2 * (1 - 0.9 * progress), rel=1e-5)


@pytest.mark.parametrize('step,scale,rate', [(1, 1.0, 0.1), (9, 1.0, 0.2), (9, 0.25, 0.05), (0, 0.5, 0.025)])
def test_plateau_scales_what_warm_up_allows(step, scale, rate):
  config = TrainConfig(learning_rate=0.2, warmup_steps=4, schedule='plateau')
  assert float(optimizer.learning_rate(config, step, 0.9, tf.constant(scale))) == pytest.approx(rate)


def test_warm_up_then_constant():
  config = TrainConfig(learning_rate=0.2, warmup_steps=4, schedule='constant')
  rates = [float(optimizer.learning_rate(config, step, 0.0)) for step in range(6)]
  np.testing.assert_allclose(rates, [0.05, 0.1, 0.15, 0.2, 0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize('limit', [0.0, 1.0, 100.0])
def test_clip(limit):
  gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
  clip = optimizer.Clipper(TrainConfig(clip_norm=limit))
  clipped, norm = clip(gradients, tf.constant(7))
  assert clip.variables == []
  assert float(norm) == 5.0
  scale = 0.2 if limit == 1.0 else 1.0
  for c, g in zip(clipped, gradients, strict=True):
    np.testing.assert_allclose(c, g * scale, rtol=1e-6)


@pytest.mark.parametrize('percent,history,resume_at', [
    (0.1, 10_000, 0), (50.0, 10_000, 17), (99.0, 8, 0), (10.0, 8, 17)])
def test_clip_percentile_is_numpys(percent, history, resume_at, monkeypatch):
  monkeypatch.setattr(optimizer, 'HISTORY', history)
  norms, result = np.exp(np.random.default_rng(0).normal(size=40)), []
  norms[[5, 9, 20]], kept = norms[4], np.zeros(history, np.float32)
  for steps in np.split(np.arange(40), [resume_at]):
    clip = optimizer.Clipper(TrainConfig(clip_percentile=percent))
    clip.norms.assign(kept)
    compiled = tf.function(clip, jit_compile=True)
    for step in steps:
      gradients = [tf.constant(norms[step] * np.array(g), tf.float32) for g in ([[0.6]], [0.0, 0.8])]
      clipped, norm = compiled(gradients, tf.constant(int(step)))
      assert float(norm) == pytest.approx(norms[step], rel=1e-5)
      result.append(float(tf.linalg.global_norm(clipped)))
    kept = clip.norms.numpy()
  limits = [np.percentile(norms[max(0, i + 1 - history):i + 1], percent) for i in range(40)]
  np.testing.assert_allclose(result, np.minimum(norms, limits), rtol=1e-5)
  assert 0 < np.sum(norms > limits) < 40


@pytest.mark.parametrize('count', [1, 2, 3, 1000])
@pytest.mark.parametrize('percent', [1.0, 33.3, 50.0])
def test_percentile(percent, count):
  values = np.random.default_rng(count).choice([0.0, 1e-30, 0.5, 0.7, 3.0, 1e20, *np.random.rand(500)], 1000)
  values = values.astype(np.float32)
  result = optimizer.percentile(tf.constant(values), tf.constant(count), percent)
  assert float(result) == pytest.approx(np.percentile(values[:count].astype(np.float64), percent), rel=1e-4)


@pytest.mark.parametrize('options', [{}, {'clip_percentile': 50.0}], ids=str)
def test_gradients_of_zero_stay_that(options):
  clipped, norm = optimizer.Clipper(TrainConfig(**options))([tf.zeros(3)], tf.constant(0))
  np.testing.assert_array_equal(clipped[0], np.zeros(3))
  assert float(norm) == 0


@pytest.mark.parametrize('norm', [math.nan, math.inf])
def test_a_norm_that_is_not_finite_stays_visible(norm):
  clip = optimizer.Clipper(TrainConfig(clip_percentile=50.0))
  clip([tf.constant([1.0])], tf.constant(0))
  clipped, norm = clip([tf.constant([norm])], tf.constant(1))
  assert not math.isfinite(norm) and not math.isfinite(clipped[0][0])


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
  saved = checkpoint.collect('model', variables) | checkpoint.collect('optimizer', own)
  one.apply(gradients[3], variables)
  again, other, its = make()
  checkpoint.restore('model', again, saved)
  checkpoint.restore('optimizer', its, saved)
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
    ('adam', 'beta_2=-0.1'), ('adam', 'epsilon=nan'), ('adam', 'amsgrad=0')])
def test_constants_that_it_does_not_take_are_named(name, constants):
  with pytest.raises(UserError, match=rf'--optimizer_constants={re.escape(constants)}: expected .* of \w+=[\d.]+'):
    optimizer.choose_optimizer(TrainConfig(optimizer=name, optimizer_constants=constants))
