"""What a run decides: how the next step is taken, what is due after it, and when the run is over.

Clocks, signals and losses come together here and nowhere else. Of several processes the chief decides, and hands that
on to the others (`HandedOn`): their clocks and signals differ, and where one takes part in what another does not, both
wait.
"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

from charlm.training.budget import Budget
from charlm.training.learner import StepDecisions
from charlm.training.loss_monitor import LossMonitor
from charlm.training.workers import Workers
from flags.training import TrainConfig

COLLECT_EVERY = 10  # steps whose metrics are read together, so that an accelerator need not wait for the host


class Due(NamedTuple):
  """What is to be done after a step."""
  collect: bool = False  # read the metrics of the steps so far
  report: bool = False
  evaluate: bool = False
  sample: bool = False
  save: bool = False
  stop: str = ''  # why the run is over; '' where it is not
  leave: bool = False  # a signal has asked for it: save, and end the process


class Decisions:
  """Takes all decisions of a run."""

  def __init__(self, config: TrainConfig, budget: Budget, monitor: LossMonitor, steps_per_call: int = 1):
    """steps_per_call: taken together where nothing is due between them."""
    self.config, self.budget, self.monitor, self.steps_per_call = config, budget, monitor, steps_per_call

  def before_step(self, step: int, epochs: float) -> StepDecisions:
    """How the step after `step` steps is taken."""
    return StepDecisions(self.budget.progress(step, epochs), self.monitor.rate_scale, self.monitor.average_share(step))

  def before_call(self, step: int, epochs: Sequence[float]) -> list[StepDecisions]:
    """How the next steps are taken that one call takes: --steps_per_call, or one.

    It is one where fewer are left of the pass, something is due before the last of them, or the run may be over.

    Args:
      step: steps done.
      epochs: passes over the text before each of the next steps.
    """
    count, config = self.steps_per_call, self.config
    every = [n for n in (config.report_every, config.eval_every, config.save_every, config.sample_every) if n]
    due = any(step % n + count > n for n in every)
    steps = [self.before_step(step + k, passes) for k, passes in enumerate(epochs)]
    together = len(steps) == count and not due and steps[-1].progress < 1
    return steps if together else steps[:1]

  def after_step(self, step: int, epochs: float, *, interrupted: bool, taken: int = 1) -> Due:
    """What is due after `step` steps, of which the last call took `taken`."""
    config, stop = self.config, self._why_stop(step, epochs)

    def due(every: int) -> bool:
      return bool(every) and step % every < taken

    report, evaluate, save = (bool(stop) or due(every) for every in (
        config.report_every, config.eval_every, config.save_every))
    collect = report or evaluate or save or interrupted or due(COLLECT_EVERY)
    return self.before_leaving(Due(collect, report, evaluate, due(config.sample_every), save, stop), interrupted)

  def after_evaluation(self, due: Due, step: int, epochs: float) -> Due:
    """The same, now that the validation loss is known and time has passed."""
    return due._replace(stop=due.stop or self._why_stop(step, epochs))

  def before_leaving(self, due: Due, interrupted: bool) -> Due:
    """The same, where a signal may have come meanwhile: a run that is over or left is sampled and saved."""
    sample = due.sample or (bool(due.stop) and bool(self.config.sample_every))
    return due._replace(sample=sample, save=due.save or bool(due.stop) or interrupted,
                        leave=interrupted and not due.stop)

  def _why_stop(self, step: int, epochs: float) -> str:
    return self.monitor.why_stop() or self.budget.why_stop(step, epochs)


class HandedOn:
  """The decisions of the chief, in all workers. The methods are those of `Decisions`."""

  def __init__(self, decisions: Decisions, workers: Workers):
    self._decisions, self._workers = decisions, workers
    self.steps_per_call = decisions.steps_per_call

  def before_call(self, step: int, epochs: Sequence[float]) -> list[StepDecisions]:
    told = self._workers.decide(lambda asked: self._decisions.before_call(step, epochs))
    return [StepDecisions(*each) for each in told]

  def after_step(self, step: int, epochs: float, *, interrupted: bool, taken: int = 1) -> Due:
    return self._due(lambda asked: self._decisions.after_step(step, epochs, interrupted=asked, taken=taken),
                     interrupted)

  def after_evaluation(self, due: Due, step: int, epochs: float) -> Due:
    return self._due(lambda asked: self._decisions.after_evaluation(due, step, epochs))

  def before_leaving(self, due: Due, interrupted: bool) -> Due:
    return self._due(lambda asked: self._decisions.before_leaving(due, asked), interrupted)

  def _due(self, decide: Callable[[bool], Due], interrupted: bool = False) -> Due:
    return Due(*self._workers.decide(decide, interrupted))
