"""The n-gram model that ours is held against is a true one: its probabilities sum to one, and it learns."""
import itertools

import pytest

from benchmarks import ngram

TEXT = b'abracadabra, abracadabra, the barracuda said. Zounds, quoth she; my jukebox vexed him.'


@pytest.mark.parametrize('order', [1, 2, 5])
def test_probabilities_sum_to_one(order):
  model = ngram.KneserNey(TEXT, order, 256)
  for context in (TEXT[3:3 + order - 1], b'zzzz'[:order - 1]):
    assert sum(model.probability(context + bytes([b])) for b in range(256)) == pytest.approx(1)


def test_longer_contexts_help_on_regular_text():
  nats = [ngram.KneserNey(TEXT, order, 256).nats(TEXT) for order in (1, 2, 5)]
  assert all(a > b for a, b in itertools.pairwise(nats))
