"""A run goes on while its checkpoints are written: what is written is what was, and no end is before the last write."""
import hashlib
import os
import signal
import time

import pytest

from charlm.commands import train
from charlm.training import learner, trainer
from charlm.workdir import checkpoint
from flags.errors import RunError
from runs import assert_same_run, flags, last

FEW = ['--steps=20', '--eval_every=4', '--save_every=4', '--sample_every=0', '--report_every=1', '--average=ema']
BEHIND = 2  # steps that a write is held back


@pytest.fixture
def steps(monkeypatch):
  """Counts the steps of a run."""
  step, done = learner.Learner.step, []

  def counted(self, *arguments):
    done.append(1)
    return step(self, *arguments)

  monkeypatch.setattr(learner.Learner, 'step', counted)
  return done


def digest(arrays, state):
  """Of all that a checkpoint holds but what the clock says."""
  told = {**state, 'seconds': 0, 'metrics': {**state['metrics'], 'timed_seconds': 0}}
  return hashlib.sha256(repr([(key, arrays[key].tobytes()) for key in sorted(arrays)] + [told]).encode()).hexdigest()


@pytest.mark.slow
def test_later_steps_do_not_change_what_is_written(corpus, tmp_path, monkeypatch, steps):
  """The same checkpoints are written at once, and when the run is some steps ahead."""
  write, found = checkpoint.write, {}
  for late in False, True:
    held = 0

    def written(workdir, name, arrays, state, late=late):
      nonlocal held
      until = time.monotonic() + 0.5  # where the run waits for this one
      while late and len(steps) < state['step'] + BEHIND and time.monotonic() < until:
        time.sleep(0.001)
      held += len(steps) >= state['step'] + BEHIND
      found.setdefault(late, []).append((name, digest(arrays, state)))
      write(workdir, name, arrays, state)

    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, 'write', written)
      if not late:  # as if there was no thread
        patch.setattr(trainer.Saver, '_hand_over', lambda self, job: job())
      steps.clear()
      train.run(flags(corpus, tmp_path / str(late), *FEW))
  assert held >= 4 and len(found[True]) >= 8 and found[True] == found[False]
  assert_same_run(tmp_path / 'False', tmp_path / 'True')


def test_a_failure_ends_the_run_at_its_next_step(corpus, tmp_path, monkeypatch, capsys, steps):
  runs, open_, step = [], trainer.Saver.__enter__, learner.Learner.step

  def fails(*arguments):
    raise RunError('the disk is full')

  def waits(self, *arguments):
    while len(steps) == 6 and not runs[0]._error:
      time.sleep(0.001)
    return step(self, *arguments)

  monkeypatch.setattr(trainer.Saver, '__enter__', lambda self: runs.append(self) or open_(self))
  monkeypatch.setattr(checkpoint, 'save', fails)
  monkeypatch.setattr(learner.Learner, 'step', waits)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run'))
  assert exit_.value.code == 1 and len(steps) == 7
  assert capsys.readouterr().err.splitlines()[-1] == 'charlm-train: the disk is full'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_stop_ends_with_the_checkpoint_on_the_disk(corpus, tmp_path, monkeypatch, capsys, steps, number):
  """A disk that takes its time."""
  save, step = checkpoint.save, learner.Learner.step
  before = signal.signal(number, signal.default_int_handler)  # what was ignored at the start, a run ignores

  def slow(*arguments):
    time.sleep(0.3)
    save(*arguments)

  def told(self, *arguments):
    if len(steps) == 3:
      os.kill(os.getpid(), number)
    return step(self, *arguments)

  monkeypatch.setattr(checkpoint, 'save', slow)
  monkeypatch.setattr(learner.Learner, 'step', told)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', '--save_every=2'))
  signal.signal(number, before)
  assert exit_.value.code == 130 and last(tmp_path / 'run')[1]['step'] == 4
  assert 'Stopped after step 4; all is saved' in capsys.readouterr().err
  assert [p.name for p in (tmp_path / 'run' / 'checkpoints').iterdir() if p.name.startswith('.')] == []
