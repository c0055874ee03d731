"""Penalties against plain loops."""
import numpy as np
import tensorflow as tf

from charlm.training.objectives import penalties


def test_penalties():
  random = np.random.default_rng(0)
  y, weight = random.normal(size=(4, 3, 5)), random.random((3, 4))
  want = sum(weight[b, t] * (y[t, b]**2).mean() for t in range(4) for b in range(3))
  np.testing.assert_allclose(penalties.mean_square(tf.constant(y), tf.constant(weight)), want)
  want = sum(weight[b, t] * ((y[t, b] - y[t - 1, b])**2).mean() for t in range(1, 4) for b in range(3))
  np.testing.assert_allclose(penalties.mean_square_change(tf.constant(y), tf.constant(weight)), want)
  assert float(penalties.mean_square_change(tf.constant(y[:1]), tf.constant(weight[:, :1]))) == 0
  starts = random.random((3, 4)) < 0.5
  want = sum(weight[b, t] * ((y[t, b] - y[t - 1, b])**2).mean() for t in range(1, 4) for b in range(3)
             if not starts[b, t])
  np.testing.assert_allclose(penalties.mean_square_change(tf.constant(y), tf.constant(weight), starts), want)
