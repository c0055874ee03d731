"""What charlm-train says and keeps where a run fails: the loss, the disk, the memory, a step."""
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from charlm.commands import train
from charlm.training import learner
from charlm.workdir import checkpoint
from runs import ROOT, flags


@pytest.fixture
def ruin(monkeypatch):
  """Has the weights be infinite after the update of a step."""
  def at(which):
    step, count = learner.Learner.step, itertools.count(1)

    def ruined(self, *arguments):
      result = step(self, *arguments)
      if next(count) == which:
        self.model.output_bias.assign(np.full(self.model.vocab_size, np.inf, np.float32))
      return result

    monkeypatch.setattr(learner.Learner, 'step', ruined)

  return at


def test_a_loss_that_is_not_finite_stops_the_run(corpus, tmp_path, capsys, ruin):
  ruin(3)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', '--save_every=1', '--eval_every=0'))
  assert exit_.value.code == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert all(word in line for word in ('step', 'last good checkpoint')), line
  assert checkpoint.saved(tmp_path / 'run')
  for path in checkpoint.saved(tmp_path / 'run'):
    assert all(np.isfinite(a).all() for a in checkpoint.read(path)[0].values())


def test_weights_that_are_not_finite_are_never_kept(corpus, tmp_path, capsys, ruin):
  ruin(1)
  with pytest.raises(SystemExit) as exit_:  # the only update ruins them, after the only loss
    train.run(flags(corpus, tmp_path / 'run', '--steps=1'))
  assert exit_.value.code == 1
  assert 'not made yet' in capsys.readouterr().err.splitlines()[-1]
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.parametrize('full_at', ['step-00000018.npz', 'best.npz'])
def test_a_full_disk_keeps_the_last_good_checkpoint(corpus, tmp_path, capsys, monkeypatch, full_at):
  folder, savez, evaluate_every = tmp_path / 'run' / 'checkpoints', np.savez, {'best.npz': 20}.get(full_at, 0)

  def fills_up(file, **arrays):
    if full_at in os.readlink(f'/proc/self/fd/{file.fileno()}'):
      file.write(b'half of it')
      raise OSError(28, 'No space left on device')
    savez(file, **arrays)

  monkeypatch.setattr(np, 'savez', fills_up)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', f'--eval_every={evaluate_every}', '--sample_every=0'))
  assert exit_.value.code == 1
  line, kept = capsys.readouterr().err.splitlines()[-1], ['step-00000006.npz', 'step-00000012.npz']
  if evaluate_every:
    kept = ['step-00000012.npz', 'step-00000018.npz']
  for words in (f'{folder / full_at}: the checkpoint could not', 'No space left', f'good one is {folder / kept[-1]}.'):
    assert words in line
  assert sorted(p.name for p in folder.iterdir()) == kept


def test_a_full_disk_under_the_record_is_one_line(corpus, finished, tmp_path):
  given = flags(corpus, tmp_path / 'run', '--report_every=1', '--save_every=0', '--eval_every=0')
  command = [sys.executable, '-m', 'charlm.commands.train', *given[1:]]
  run = subprocess.run(['bash', '-c', 'trap "" XFSZ; ulimit -f 4; exec "$@"', 'bash', *command], cwd=ROOT, text=True,
                       capture_output=True)
  assert run.returncode == 1
  assert 'Traceback' not in run.stderr and 'cannot be written' in run.stderr.splitlines()[-1], run.stderr
  assert run.stderr.count('going on without TensorBoard') == 1  # its events are no reason to stop


def test_too_little_memory_is_not_a_full_disk(corpus, tmp_path, capsys, monkeypatch):
  def step(*args, **options):
    raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor\nand more')

  monkeypatch.setattr(learner.Learner, 'step', step)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run'))
  assert exit_.value.code == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert 'step 1 needs more memory' in line and '--batch_size' in line and 'cannot be written' not in line


def test_a_failure_of_a_step_is_not_a_full_disk(corpus, tmp_path, capsys, monkeypatch):
  def step(*args, **options):
    raise tf.errors.InternalError(None, None, 'no such program')

  monkeypatch.setattr(learner.Learner, 'step', step)
  with pytest.raises(SystemExit):
    train.run(flags(corpus, tmp_path / 'run'))
  assert 'TensorFlow failed (InternalError: no such program)' in capsys.readouterr().err.splitlines()[-1]
