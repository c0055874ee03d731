"""What is due after a step, and when a run is over."""
import pytest

from charlm.training.budget import Budget
from charlm.training.decisions import Decisions, Due
from charlm.training.loss_monitor import LossMonitor
from flags.training import TrainConfig


def decisions(**flags):
  config = TrainConfig(**{**dict(report_every=5, eval_every=10, save_every=6, sample_every=20, steps=40), **flags})
  return Decisions(config, Budget(config), LossMonitor(config))


@pytest.mark.parametrize('step, expected', [
  (1, Due()), (5, Due(collect=True, report=True)), (6, Due(collect=True, save=True)),
  (10, Due(collect=True, report=True, evaluate=True)),
  (20, Due(collect=True, report=True, evaluate=True, sample=True)),
  (40, Due(True, True, True, True, True, 'all steps are done'))])
def test_what_is_due(step, expected):
  assert decisions().after_step(step, 0.1, interrupted=False) == expected


def test_nothing_but_the_end_is_due_where_nothing_is_asked_for():
  run = decisions(report_every=0, eval_every=0, save_every=0, sample_every=0)
  assert [step for step in range(1, 40) if run.after_step(step, 0.1, interrupted=False) != Due()] == [10, 20, 30]
  assert run.after_step(40, 0.1, interrupted=False) == Due(True, True, True, False, True, 'all steps are done')


def test_a_signal_saves_and_leaves_and_the_end_is_not_left():
  run = decisions()
  assert run.after_step(1, 0.1, interrupted=True) == Due(collect=True, save=True, leave=True)
  assert run.before_leaving(Due(), True) == Due(save=True, leave=True)
  assert not run.after_step(40, 0.1, interrupted=True).leave


def test_an_evaluation_may_end_the_run():
  run = decisions(patience=1, sample_every=7)
  due = run.after_step(10, 0.1, interrupted=False)
  for nats in 2.0, 3.0:
    run.monitor.validated(nats, 10)
  due = run.before_leaving(run.after_evaluation(due, 10, 0.1), False)
  assert due.stop == 'the validation loss has not improved in 1 evaluations' and due.sample and due.save


def test_a_step_is_told_what_losses_and_progress_say():
  run = decisions(schedule='plateau', plateau_patience=1, average='ema')
  for nats in 2.0, 3.0:
    run.monitor.validated(nats, 10)
  progress, rate_scale, average_share = run.before_step(10, 0.1)
  assert (progress, rate_scale) == (0.25, 0.5) and average_share == pytest.approx(9 / 19)
