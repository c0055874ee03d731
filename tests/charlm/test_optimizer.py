"""Schedules and clipping against their arithmetic by hand."""
import math

import numpy as np
import pytest
import tensorflow as tf

from charlm import optimizer
from charlm.config import TrainConfig, UserError


@pytest.mark.parametrize('progress,share', [(0.0, 1.0), (0.5, (1 + 0.1) / 2), (1.0, 0.1), (0.25, None)])
def test_cosine(progress, share):
  config = TrainConfig(learning_rate=0.2, warmup_steps=0, final_fraction=0.1)
  share = 0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2 if share is None else share
  assert float(optimizer.learning_rate(config, 7, tf.constant(progress))) == pytest.approx(0.2 * share, rel=1e-5)


def test_warm_up_then_constant():
  config = TrainConfig(learning_rate=0.2, warmup_steps=4, schedule='constant')
  rates = [float(optimizer.learning_rate(config, step, 0.0)) for step in range(6)]
  np.testing.assert_allclose(rates, [0.05, 0.1, 0.15, 0.2, 0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize('limit', [0.0, 1.0, 100.0])
def test_clip(limit):
  gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
  clipped, norm = optimizer.clip(gradients, limit)
  assert float(norm) == 5.0
  scale = 0.2 if limit == 1.0 else 1.0
  for c, g in zip(clipped, gradients, strict=True):
    np.testing.assert_allclose(c, g * scale, rtol=1e-6)


@pytest.mark.parametrize('name', ['AdamW', *sorted(optimizer.optimizers())])
def test_keras_optimizers_by_name(name):
  one = optimizer.make_optimizer(TrainConfig(optimizer=name))
  assert type(one).__name__.lower() == name.lower()
  variable = tf.Variable([1.0, -1.0])
  one.apply([tf.constant([0.5, 0.5])], [variable])
  assert (variable.numpy() != [1.0, -1.0]).all()


def test_an_unknown_optimizer_is_named():
  with pytest.raises(UserError, match=r'--optimizer=adom: expected one of .*adam'):
    optimizer.make_optimizer(TrainConfig(optimizer='adom'))
