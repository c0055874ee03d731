"""Clipping by a fixed norm and by a percentile of the norms so far, against NumPy."""
import math

import numpy as np
import pytest
import tensorflow as tf

from charlm.training import clipping
from flags.training import TrainConfig


@pytest.mark.parametrize('limit', [0.0, 1.0, 100.0])
def test_clip(limit):
  gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
  clip = clipping.Clipper(TrainConfig(clip_norm=limit))
  clipped, norm = clip(gradients, tf.constant(7))
  assert clip.variables == []
  assert float(norm) == 5.0
  scale = 0.2 if limit == 1.0 else 1.0
  for c, g in zip(clipped, gradients, strict=True):
    np.testing.assert_allclose(c, g * scale, rtol=1e-6)


@pytest.mark.parametrize('percent,history,resume_at', [
    (0.1, 10_000, 0), (50.0, 10_000, 17), (99.0, 8, 0), (10.0, 8, 17)])
def test_clip_percentile_is_numpys(percent, history, resume_at, monkeypatch):
  monkeypatch.setattr(clipping, 'HISTORY', history)
  norms, result = np.exp(np.random.default_rng(0).normal(size=40)), []
  norms[[5, 9, 20]], kept = norms[4], np.zeros(history, np.float32)
  for steps in np.split(np.arange(40), [resume_at]):
    clip = clipping.Clipper(TrainConfig(clip_percentile=percent))
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
  result = clipping.percentile(tf.constant(values), tf.constant(count), percent)
  assert float(result) == pytest.approx(np.percentile(values[:count].astype(np.float64), percent), rel=1e-4)


@pytest.mark.parametrize('options', [{}, {'clip_percentile': 50.0}], ids=str)
def test_gradients_of_zero_stay_that(options):
  clipped, norm = clipping.Clipper(TrainConfig(**options))([tf.zeros(3)], tf.constant(0))
  np.testing.assert_array_equal(clipped[0], np.zeros(3))
  assert float(norm) == 0


@pytest.mark.parametrize('norm', [math.nan, math.inf])
def test_a_norm_that_is_not_finite_stays_visible(norm):
  clip = clipping.Clipper(TrainConfig(clip_percentile=50.0))
  clip([tf.constant([1.0])], tf.constant(0))
  clipped, norm = clip([tf.constant([norm])], tf.constant(1))
  assert not math.isfinite(norm) and not math.isfinite(clipped[0][0])
