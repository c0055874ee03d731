"""What the losses decide, on short series by hand, and the same after a checkpoint in between."""
import json

import numpy as np
import pytest

from charlm.training.loss_monitor import LossMonitor
from flags.training import TrainConfig

FALLS_THEN_RISES = [3.0, 2.0, 2.5, 2.4, 2.6, 1.9, 2.0, 2.1, 2.2, 2.3]


def judged(config, losses, every=10, stop_at=None):
  """-> the judge after the losses; `stop_at` of them go before a checkpoint."""
  judge = LossMonitor(config)
  for i, nats in enumerate(losses, 1):
    judge.validated(nats, every * i)
    if i == stop_at:
      judge = LossMonitor(config, **json.loads(json.dumps(judge.state())))
  return judge


@pytest.mark.parametrize('patience,cuts', [(1, [0, 0, 1, 2, 3, 3, 4, 5, 6, 7]), (2, [0, 0, 0, 1, 1, 1, 1, 2, 2, 3]),
                                           (3, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2])])
def test_a_plateau_lowers_the_rate_and_waits_again(patience, cuts):
  config = TrainConfig(schedule='plateau', plateau_patience=patience, plateau_factor=0.25)
  scales = [judged(config, FALLS_THEN_RISES[:n], stop_at=n // 2).rate_scale for n in range(1, 11)]
  assert scales == [0.25**c for c in cuts]
  assert judged(TrainConfig(schedule='linear'), FALLS_THEN_RISES).rate_scale == 1


def first_trigger(losses, n):
  """NT-ASGD (Merity et al. 2018), algorithm 1, word by word: the evaluation at which averaging begins, or None."""
  logs = []
  for t, v in enumerate(losses):
    if t > n and v > min(logs[:t - n]):
      return t + 1
    logs.append(v)
  return None


@pytest.mark.parametrize('n', [0, 1, 2, 5, 20])
@pytest.mark.parametrize('seed', range(5))
def test_averaging_begins_where_the_paper_says(n, seed):
  losses = list(np.random.default_rng(seed).normal(size=15) - 0.2 * np.arange(15))
  config, expected = TrainConfig(average='validation', average_patience=n), first_trigger(losses, n)
  for stop_at in (None, 3, 10):
    assert judged(config, losses, stop_at=stop_at).average_from == (10 * expected if expected else None)
  assert judged(TrainConfig(), losses).average_from is None


def test_shares_make_the_mean_since_averaging_began():
  numbers = np.random.default_rng(0).normal(size=30)  # after steps 1 to 30
  judge, average = LossMonitor(TrainConfig(average='validation')), 99.0
  for step, number in enumerate(numbers):
    if step == 10:
      judge.average_from = 10
    share = judge.average_share(step)
    average = (1 - share) * average + share * number
    assert average == pytest.approx(numbers[9:step + 1].mean() if step >= 10 else number)


def test_shares_of_a_moving_average():
  """The decay is as given, or t/(t + 9) before that: the first step forgets what was there."""
  judge = LossMonitor(TrainConfig(average='ema', ema_decay=0.9))
  decays = [1 - judge.average_share(step) for step in (0, 1, 9, 80, 82, 1000)]
  assert decays == pytest.approx([0, 0.1, 0.5, 80 / 89, 0.9, 0.9])


def test_patience_counts_evaluations_since_the_best():
  config = TrainConfig(patience=4)
  reasons = [judged(config, FALLS_THEN_RISES[:n], stop_at=n // 2).why_stop() for n in range(1, 11)]
  assert reasons == [''] * 9 + ['the validation loss has not improved in 4 evaluations']
  last = judged(config, FALLS_THEN_RISES)
  assert (last.best_nats, last.best_step, last.waited) == (1.9, 60, 4)


@pytest.mark.parametrize('break_at', [None, (1, 0), (2, 2), (3, 1)])
def test_flat_epochs_compare_whole_passes(break_at):
  """A pass of two steps, of 1 and 3 tokens."""
  config, reasons = TrainConfig(flat_epochs=2, epochs=50), []
  judge = LossMonitor(config)
  for epoch, nats_per_token in enumerate([2.0, 1.5, 1.6, 1.4, 1.4, 1.7, 1.0]):
    for i, tokens in enumerate([1, 3]):
      if (epoch, i) == break_at:
        judge = LossMonitor(config, **json.loads(json.dumps(judge.state())))
      judge.trained((nats_per_token + (3, -1)[i]) * tokens, tokens)
    judge.end_epoch()
    reasons.append(judge.why_stop())
  assert reasons == [''] * 5 + ['the training loss has not improved in 2 epochs', '']
