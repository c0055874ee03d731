"""Free-running evaluation against a plain loop in NumPy, and its independence of rows and chunks."""
import numpy as np
import pytest
import tensorflow as tf

import references
import slow_model
from charlm.evaluation import free_running
from charlm.generation.random_streams import random_numbers
from corpora import token_file

V = 5
TEXT = (np.random.default_rng(0).integers(0, 2, 62).cumsum() % V).astype(np.uint8)
STARTS = np.array([0, 7, 8, 30, 41])


@pytest.fixture
def make_file(tmp_path):
  def make(starts=()):
    return token_file(tmp_path, TEXT, starts)

  return make


def plain_loop(one, steps, seed, starts):
  """-> sums of the losses [K], rollouts, one at a time."""
  given, sums, count = slow_model.weights(one), np.zeros(steps), 0
  state = slow_model.initial(one, given)
  for t in range(len(TEXT) - 1):
    if t in starts:
      state = slow_model.initial(one, given)
    logits, state = slow_model.read(one, given, TEXT[t], state)
    if t % steps or t + steps > len(TEXT) - 1 or {*range(t + 1, t + steps)} & {*starts}:
      continue
    key = tf.constant([seed + t // steps * 2**32], tf.int64)
    numbers, own = random_numbers(key, 0, steps - 1).numpy()[:, 0, 0], state
    for j in range(steps):
      if j:
        logits, own = slow_model.read(one, given, slow_model.sample(logits, numbers[j - 1]), own)
      sums[j] += references.nats(logits[None, None], TEXT[None, t + j + 1, None])[0, 0]
    count += 1
  return sums, count


@pytest.mark.parametrize('options,starts,rollouts', [
  ({}, (), 15), ({'cell': 'lstm', 'layers': 1, 'zoneout': 0.25}, STARTS, 12)], ids=str)
def test_agrees_with_a_plain_loop(make_file, options, starts, rollouts):
  one = slow_model.random_model(V, **options)
  want, count = plain_loop(one, 4, 3, starts)
  nats, found = free_running.score_file(one, make_file(starts), 4, seed=3, batch_size=1, length=10)
  assert found == count == rollouts
  np.testing.assert_allclose(nats, want, rtol=1e-4)
  nats, found = free_running.score_file(one, make_file(starts), 4, seed=3, batch_size=3, length=5)
  assert found == count
  np.testing.assert_allclose(nats, want, rtol=1e-3)
  other, _ = free_running.score_file(one, make_file(starts), 4, seed=4, batch_size=1, length=10)
  assert other[0] == pytest.approx(want[0], rel=1e-4) and abs(other[3] / want[3] - 1) > 1e-3


def test_text_that_is_too_short_has_no_rollout(make_file):
  assert free_running.score_file(slow_model.random_model(V, layers=1), make_file(), 62, length=10)[1] == 0
