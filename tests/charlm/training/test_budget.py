"""How much of a run is done, and how much time is left for its end."""
from types import SimpleNamespace

import pytest

from charlm.training.budget import Budget
from flags.training import TrainConfig


@pytest.mark.parametrize('evaluation, speed, expected', [
  (None, None, 60),  # nothing is known yet
  (None, 50.0, 60 - 20),  # 3,000 tokens at 150 per second
  (None, 1.0, 30), (7, 50.0, 60 - 7), (50, 50.0, 30)])
def test_time_is_left_for_the_last_evaluation(evaluation, speed, expected):
  budget = Budget(TrainConfig(max_minutes=1.0), SimpleNamespace(num_tokens=3_000))
  budget.evaluation_seconds, budget.tokens_per_second = evaluation, speed
  assert budget.training_seconds() == expected


@pytest.mark.parametrize('limits, progress', [
  (dict(steps=40), 0.25), (dict(epochs=4.0), 0.5), (dict(steps=40, epochs=4.0), 0.5), ({}, 0.2),
  (dict(steps=40, max_minutes=1e-6), 0.25)])
def test_progress_follows_steps_and_passes(limits, progress):
  assert Budget(TrainConfig(**limits)).progress(10, 2.0) == progress


def test_the_clock_counts_where_it_is_the_only_limit_and_goes_on_with_a_checkpoint():
  budget = Budget(TrainConfig(max_minutes=1.0))
  assert budget.progress(10**6, 10**6) < 0.1 and not budget.why_stop(10**6, 10**6)
  budget.restore({'seconds': 45.0})
  assert 0.75 <= budget.progress(0, 0) < 0.9 and 45 <= budget.state()['seconds'] < 50
  budget.restore({'seconds': 45.0})
  assert budget.progress(0, 0) == 1 and budget.why_stop(0, 0) == '1 minutes are over'
  assert Budget(TrainConfig(steps=5)).why_stop(5, 0.1) == 'all steps are done'
