"""The loss after fresh starts against the slow twin, a stretch at a time."""
import numpy as np
import pytest

import references
import slow_model
from benchmarks import cold_start

V, K = 5, 4
TEXT = np.random.default_rng(0).integers(0, V, 43).astype(np.uint8)


@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_each_stretch_begins_afresh(monkeypatch, cell):
  monkeypatch.setattr(cold_start, 'ROWS', 4)
  one = slow_model.random_model(V, cell=cell)
  given, want = slow_model.weights(one), []
  for start in range(0, 40, K):
    state, nats = slow_model.initial(one, given), []
    for t in range(start, start + K):
      logits, state = slow_model.read(one, given, TEXT[t], state)
      nats.append(references.nats(logits[None, None], TEXT[None, t + 1, None])[0, 0])
    want.append(nats)
  got = cold_start.evaluate(one, TEXT, K)
  assert got['stretches'] == len(want) == 10
  np.testing.assert_allclose(got['nats_per_token'], np.mean(want, 0), rtol=1e-4)
