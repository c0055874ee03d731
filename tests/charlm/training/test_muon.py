"""Muon against its slow twin in NumPy, whose polar factors come of a singular value decomposition."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.training import muon, optimizer
from flags.training import TrainConfig
from slow_model import random_model


def polar(matrix):
  u, _, v = np.linalg.svd(matrix, full_matrices=False)
  return u @ v


@pytest.mark.parametrize('shape', [(5, 5), (3, 8), (8, 3), (1, 4), (32, 32)])
@pytest.mark.parametrize('scale', [1e-6, 1.0, 1e6])
def test_the_polar_factor(shape, scale):
  matrix = scale * np.random.default_rng(0).normal(size=shape)
  np.testing.assert_allclose(muon.polar(tf.constant(matrix, tf.float32), steps=9), polar(matrix), atol=2e-3)


def test_five_steps_make_singular_values_about_one():
  u, v = (polar(np.random.default_rng(seed).normal(size=(40, 40))) for seed in (0, 1))
  sizes = np.logspace(-2, 0, 40)
  found = np.linalg.svd(muon.polar(tf.constant(u * sizes @ v, tf.float32)))[1]
  assert found.min() > 0.87 and found.max() < 1.13


def test_no_gradient_is_no_step():
  assert not muon.polar(tf.zeros([4, 3])).numpy().any()


@pytest.mark.parametrize('cell, gates', [('gru', 3), ('lstm', 4)])
@pytest.mark.parametrize('nesterov', [True, False])
def test_weights_change_as_the_equations_say(cell, gates, nesterov):
  """Each gate by itself; embedding, output and vectors by Adam."""
  model, random = random_model(9, units=5, cell=cell, wiring='dual_path', combine='concat'), np.random.default_rng(0)
  variables = model.trainable_variables
  config = TrainConfig(optimizer='muon', weight_decay=0.1,
                       optimizer_constants=f'ns_steps=12,momentum=0.9,nesterov={str(nesterov).lower()}')
  one = optimizer.make_optimizer(config, variables)
  one.learning_rate.assign(0.05)
  weights = [v.numpy().astype(np.float64) for v in variables]
  momenta, velocities = ([np.zeros_like(w) for w in weights] for _ in range(2))
  orthogonal = {v.name.removesuffix(':0') for v, w in zip(variables, one._velocities, strict=True) if w is None}
  assert {'input_0_kernel', 'recurrent_0_kernel', 'recurrent_1_kernel', 'recurrent_1_input_2_kernel'} <= orthogonal
  assert not {'embedding', 'output_kernel'} & orthogonal
  for step in range(1, 4):
    gradients = [random.normal(size=w.shape) for w in weights]
    one.apply([tf.constant(g, tf.float32) for g in gradients], variables)
    for v, w, m, s, g in zip(variables, weights, momenta, velocities, gradients, strict=True):
      w *= 1 - 0.1 * 0.05 * (w.ndim == 2)
      name = v.name.removesuffix(':0')
      if name in orthogonal:
        m[:] = 0.9 * m + g
        count = gates if name.startswith('recurrent') else 1
        for part, p in zip(np.split(w, count, 1), np.split(g + 0.9 * m if nesterov else m, count, 1), strict=True):
          part -= 0.05 * 0.2 * max(part.shape)**0.5 * polar(p)
      else:
        m[:], s[:] = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
        w -= 0.05 * m / (1 - 0.9**step) / (np.sqrt(s / (1 - 0.999**step)) + 1e-7)
  for v, w in zip(variables, weights, strict=True):
    np.testing.assert_allclose(v, w, atol=1e-3, err_msg=v.name)
