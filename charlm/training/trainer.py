"""The training loop: train, report, evaluate, sample, save, until the run is over."""
import contextlib
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.network.model import LanguageModel
from charlm.training import workers
from charlm.training.budget import Budget
from charlm.training.chunks import TrainingChunks
from charlm.training.decisions import COLLECT_EVERY, Decisions, Due, HandedOn
from charlm.training.learner import DistributedScorer, Learner, StepDecisions
from charlm.training.loss_monitor import LossMonitor
from charlm.training.terminal import Terminal
from charlm.workdir import checkpoint, metrics, plot, variables
from charlm.workdir.saver import Saver
from data_pipeline.token_files import TokenFile
from flags.config import Config
from flags.errors import RunError


class Run(NamedTuple):
  """What identifies a run."""
  workdir: Any
  config: Config
  identity: dict[str, Any]  # what the weights belong to, named in each checkpoint: vocab_size, tokenizer, text
  profile: bool = False  # whether to profile some steps
  steps_per_call: int = 1  # training steps that one call takes, at most


class Trainer:
  """One training run, from its newest checkpoint on.

  All processes of a run have one, and do the same. The chief alone decides, writes and speaks.

  A checkpoint has all that the next step depends on: the weights, the optimizer, the carry, and the state of each of
  the `members`. A run that was killed and started again gives the same bits as one that was not.

  Attributes:
    step: steps done.
    finished: why the run is over, '' while it is not.
    monitor: the LossMonitor.
  """

  def __init__(self, run: Run, files: dict[str, Any], learner: Learner, budget: Budget,
               write_sample: Callable[[LanguageModel], bytes] | None = None):
    """Restores the newest checkpoint, if there is one, and sets aside damaged ones. Needs the lock of the workdir.

    Args:
      run: which run it is.
      files: {split: TokenFile}; 'train', and 'valid' if there is one.
      learner: what trains.
      budget: how long.
      write_sample: writes a text now and then, to print and keep; None writes none.
    """
    self.workdir, self.config, self.identity = run.workdir, run.config, run.identity
    self.learner, self.budget, self.workers = learner, budget, learner.distribution.workers
    self.files, self.valid_file, self.write_sample = files, files.get('valid'), write_sample
    self.scorer = DistributedScorer(learner.evaluated, learner.distribution)
    self.chunks = TrainingChunks(run.config.data, files['train'], learner.distribution)
    self.monitor, self.metrics = LossMonitor(run.config.train), metrics.StepMetrics()
    self.members: list[Any] = [self.chunks, self.budget, self.monitor, self.metrics]
    self.decisions = HandedOn(Decisions(run.config.train, budget, self.monitor, run.steps_per_call), self.workers)
    self.step, self.tokens, self.finished = 0, 0, ''
    self.carry, self.saver = learner.initial_carry(), Saver(self.workdir)
    self.uncollected: list[dict[str, tf.Tensor]] = []
    found = workers.newest_checkpoint(self.workdir, self.workers)
    if found:
      self._restore(*found)
    if self.workers.is_chief:
      self._check_best(bool(found))
    self.workers.check_same('weights', self._arrays, f'Is --workdir={self.workdir} the same folder for all?')
    first = self.step + COLLECT_EVERY  # the first steps compile
    self.profiled = range(first, first + COLLECT_EVERY) if run.profile and self.workers.is_chief else range(0)

  def train(self) -> None:
    """Trains until a limit is reached, then draws the plot.

    Raises RunError where the loss is not finite any more or a file cannot be written, KeyboardInterrupt after Ctrl-C,
    SIGTERM or SIGHUP, once all is saved.
    """
    with self.workers.failures(), self._failures(), self._open_writer() as self.writer, self.saver:
      if not self.finished:
        with Terminal(self._progress(), quiet=not self.workers.is_chief).open() as self.terminal:
          while not self.finished:
            self.saver.check()
            self._do(self._train_call())
      if self.profiled and self.step <= self.profiled[0]:
        print('notice: --profile: the run had too few steps left for a profile', file=sys.stderr)
      if self.workers.is_chief:
        plot.try_to_draw(self.workdir)

  def _train_call(self) -> Due:
    """Takes the steps of one call -> what is due after them."""
    told, epoch = self._next_steps(), self.chunks.cursor.epoch
    batches, tokens, compiles = self.chunks.next(told[0].progress, len(told))
    began = time.perf_counter()
    with self.writer.tensorboard.profile(self.step, len(told), self.profiled), self.workers.waiting():
      if len(told) == 1:
        step_metrics, self.carry = self.learner.step(batches[0], self.carry, told[0])
      else:
        step_metrics, self.carry = self.learner.steps(batches, self.carry, told)
    self.uncollected.append(step_metrics)
    self.step += len(told)
    if self.chunks.cursor.epoch > epoch:
      self._collect()
      self.monitor.end_epoch()
    due = self.decisions.after_step(self.step, self.chunks.epochs(), interrupted=self.terminal.interrupted,
                                    taken=len(told))
    if due.collect:
      self._collect()
    if not compiles:  # which is no measure of speed
      self.metrics.add_time(tokens, time.perf_counter() - began)
      self.budget.tokens_per_second = self.metrics.tokens_per_second()
    self.terminal.show(self.step, self._progress(), self.metrics, self.monitor.best_nats)
    return due

  def _next_steps(self) -> list[StepDecisions]:
    """What the steps of the next call are told: --steps_per_call of them, of one length, or one."""
    chunks, many = self.chunks, self.decisions.steps_per_call
    told = self.decisions.before_call(self.step, chunks.ahead(many, self._progress()))
    same = chunks.length(told[0].progress) == chunks.length(told[-1].progress)
    return told if same else told[:1]

  def _do(self, due: Due) -> None:
    """Reports, evaluates, samples and saves as is due; ends the process where a signal has asked for it."""
    if due.evaluate and self.valid_file:
      self._report(valid_nats_per_token=self._evaluate(self.valid_file))
      due = self.decisions.after_evaluation(due, self.step, self.chunks.epochs())
    elif due.report:
      self._report()
    if due.report or due.evaluate:
      due = self.decisions.before_leaving(due, self.terminal.interrupted)
    if due.sample and self.write_sample:
      if self.workers.is_chief:
        self._sample(self.write_sample)
      due = self.decisions.before_leaving(due, self.terminal.interrupted)
    self.finished = due.stop
    if due.save:
      self._save()
    if due.stop or due.leave:
      self.saver.wait()
      self.workers.exchange(self.step)  # none ends before all is written
    if due.leave:
      self.terminal.leave(self.step)
      raise KeyboardInterrupt

  def _progress(self) -> float:
    return self.budget.progress(self.step, self.chunks.epochs())

  # What is done.

  def _collect(self) -> None:
    """Takes in the metrics of the steps since it was last called. Raises RunError at one that is not finite."""
    steps = [dict(zip(call, numbers, strict=True)) for call in self.uncollected
             for numbers in zip(*(np.ravel(value).tolist() for value in call.values()), strict=True)]
    for step, numbers in enumerate(steps, self.step - len(steps) + 1):
      if not self.metrics.add(**numbers):
        raise self._not_finite(f'step {step}: the loss is {numbers["nats"] / numbers["tokens"]} nats with gradient '
                               f'norm {numbers["gradient_norm"]}')
      self.tokens += int(numbers['tokens'])
      self.monitor.trained(numbers['nats'], numbers['tokens'])
    self.uncollected = []

  def _report(self, **measured: float) -> None:
    line = {'step': self.step, 'epoch': round(self.chunks.epochs(), 4), 'tokens': self.tokens,
            'seconds': round(self.budget.seconds(), 3), **self.metrics.result(), **measured}
    self.metrics.reset()
    with self._writing():
      self.writer.write(line)
    self.terminal.report(line)

  def _evaluate(self, valid_file: TokenFile) -> float:
    """-> nats per token of the validation split. Keeps the weights where they are the best so far."""
    began = time.perf_counter()
    nats, tokens = scoring.score_file(self.scorer, valid_file)
    self.budget.evaluation_seconds = time.perf_counter() - began
    loss = float(nats) / tokens
    if not math.isfinite(loss):
      raise self._not_finite(f'step {self.step}: the validation loss is {loss} nats')
    if self.monitor.validated(loss, self.step) and self.workers.is_chief:
      self.saver.keep_best(variables.collect('model', self.learner.evaluated.variables), self.state())
    return loss

  def _sample(self, write_sample: Callable[[LanguageModel], bytes]) -> None:
    text = write_sample(self.learner.evaluated)
    with self._writing():
      self.writer.write_sample(self.step, text)
    self.terminal.sample(self.step, text)

  def _save(self) -> None:
    self._collect()
    arrays = self._arrays()
    if not all(np.isfinite(a).all() for a in arrays.values()):  # the last update has not met a loss yet
      raise self._not_finite(f'step {self.step}: the weights are not finite')
    if self.workers.is_chief:
      self.saver.save(self.step, arrays, self.state())
    else:
      self.saver.step = self.step

  def _arrays(self) -> dict[str, np.ndarray]:
    """What a checkpoint holds beside its state."""
    arrays = dict(zip(self._carry_keys(), self.learner.join_carry(self.carry), strict=True))
    for name, held in self._variables().items():
      arrays |= variables.collect(name, held)
    return arrays

  def _check_best(self, resumes: bool) -> None:
    """Looks whether the best weights so far are whole, and of this run. resumes: whether there is a checkpoint."""
    if resumes:
      if self.monitor.best_nats is not None and not checkpoint.has_whole_best(self.workdir):
        self.monitor.forget_best()
    elif checkpoint.has_best(self.workdir):  # of a run that was killed before its first checkpoint
      with contextlib.suppress(checkpoint.Damaged):
        best = checkpoint.read(checkpoint.best_path(self.workdir))
        checkpoint.check_state(self.workdir, best[1], {'step': 0, **self.identity})
        checkpoint.check_identity(self.workdir, self.identity, best[1])

  def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    checkpoint.check_state(self.workdir, state, self.state())
    checkpoint.check_identity(self.workdir, self.identity, state)
    for name, held in self._variables().items():
      variables.restore(name, held, arrays)
    keys = self._carry_keys()
    variables.check_arrays('carry', arrays, dict(zip(keys, self.learner.join_carry(self.carry), strict=True)))
    self.carry = self.learner.split_carry([arrays[key] for key in keys])
    self.step, self.tokens, self.finished = (state[name] for name in ('step', 'tokens', 'finished'))
    self.saver.step = self.step
    for member in self.members:
      member.restore(state)

  def _carry_keys(self) -> list[str]:
    return variables.carry_keys(self.learner.model.initial_state(1))

  def _variables(self) -> dict[str, list[tf.Variable]]:
    """{name in a checkpoint: variables}: all that a step changes, beside the carry. 'model' is what is used later."""
    averaged = self.learner.evaluated is not self.learner.model
    return {'model': self.learner.evaluated.variables, 'optimizer': self.learner.variables,
            **({'training': self.learner.model.variables} if averaged else {})}

  def state(self) -> dict[str, Any]:
    """The rest of a checkpoint, as JSON."""
    state = {'step': self.step, 'tokens': self.tokens, 'finished': self.finished, **self.identity}
    for member in self.members:
      own = member.state()
      assert not own.keys() & state.keys(), (own.keys(), state.keys())
      state |= own
    return state

  # What goes wrong.

  def _open_writer(self) -> Any:
    with self._writing():
      return metrics.MetricWriter(self.workdir, self.step) if self.workers.is_chief else metrics.NoWriter()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Turns what a file system says into one line."""
    try:
      yield
    except OSError as error:
      what = f'{error.filename}: {error.strerror}' if error.filename else str(error)
      self.saver.settle()
      good = f'of step {self.saver.step}' if self.saver.step else 'not made yet'
      raise RunError(f'--workdir={self.workdir} cannot be written ({what}). The last good checkpoint is {good}. '
                     'Mend this, then run the same command again') from error

  @contextlib.contextmanager
  def _failures(self) -> Iterator[None]:
    """Turns a lack of memory, or tokens that are gone from the cache, into one line."""
    try:
      yield
    except (tf.errors.OpError, MemoryError) as error:
      what = [*str(error).splitlines(), ''][0]
      if isinstance(error, MemoryError) or re.search(r'\bOOM\b', what) or 'out of memory' in what.lower():
        raise RunError(f'step {self.step + 1} needs more memory than there is ({what}). Try a smaller --batch_size, '
                       '--chunk_length or --units in another --workdir') from error
      gone = isinstance(error, tf.errors.NotFoundError)
      for path in (file.path for file in self.files.values() if gone and file.path in what):
        raise RunError(f'{path}: these tokens cannot be read any more: somebody has cleared the cache meanwhile. Run '
                       f'the same command again; it goes on from step {self.saver.step}') from error
      raise

  def _not_finite(self, what: str) -> RunError:
    self.saver.settle()
    good = [str(path) for path in checkpoint.saved(self.workdir)[:1]]
    where = ' in another --workdir' if good else ''
    return RunError(f'{what}; the last good checkpoint is {"".join(good) or "not made yet"}. Try a lower '
                    f'--learning_rate or --clip_norm{where}')
