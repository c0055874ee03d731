"""The learning rate over a run."""
import math

import numpy as np
import pytest
import tensorflow as tf

from charlm.training import schedule
from flags.training import TrainConfig


@pytest.mark.parametrize('progress,share', [(0.0, 1.0), (0.5, (1 + 0.1) / 2), (1.0, 0.1), (0.25, None)])
def test_cosine(progress, share):
  config = TrainConfig(learning_rate=0.2, warmup_steps=0, final_fraction=0.1)
  share = 0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2 if share is None else share
  assert float(schedule.learning_rate(config, 7, tf.constant(progress))) == pytest.approx(0.2 * share, rel=1e-5)


@pytest.mark.parametrize('progress', [0.0, 0.3, 1.0])
def test_linear(progress):
  config = TrainConfig(learning_rate=0.2, warmup_steps=0, schedule='linear', final_fraction=0.1)
  rate = schedule.learning_rate(config, 7, tf.constant(progress))
  assert float(rate) == pytest.approx(0.2 * (1 - 0.9 * progress), rel=1e-5)


@pytest.mark.parametrize('step,scale,rate', [(1, 1.0, 0.1), (9, 1.0, 0.2), (9, 0.25, 0.05), (0, 0.5, 0.025)])
def test_plateau_scales_what_warm_up_allows(step, scale, rate):
  config = TrainConfig(learning_rate=0.2, warmup_steps=4, schedule='plateau')
  assert float(schedule.learning_rate(config, step, 0.9, tf.constant(scale))) == pytest.approx(rate)


def test_warm_up_then_constant():
  config = TrainConfig(learning_rate=0.2, warmup_steps=4, schedule='constant')
  rates = [float(schedule.learning_rate(config, step, 0.0)) for step in range(6)]
  np.testing.assert_allclose(rates, [0.05, 0.1, 0.15, 0.2, 0.2, 0.2], rtol=1e-6)
