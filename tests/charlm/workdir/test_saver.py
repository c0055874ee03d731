"""Checkpoints are written beside the run, in their order, and a failure reaches it."""
import contextlib
import os
import threading

import numpy as np
import pytest

from charlm.workdir import checkpoint, layout, saver
from flags.errors import RunError

SECONDS = 60  # in which what is waited for has long come


def arrays(value):
  return {'model/w': np.full(10, value, np.float32)}


class Gate:
  """Holds back each write until it is opened; says what was written, in order."""

  def __init__(self, monkeypatch):
    self.open, self.begun, self.done = threading.Event(), threading.Event(), []
    write = checkpoint.write

    def held(workdir, name, *others):
      self.begun.set()
      assert self.open.wait(SECONDS)
      write(workdir, name, *others)
      self.done.append(name)

    monkeypatch.setattr(checkpoint, 'write', held)


@pytest.fixture
def gate(monkeypatch):
  return Gate(monkeypatch)


def test_the_run_goes_on_while_one_is_written_and_one_waits(tmp_path, gate):
  third = threading.Event()
  with saver.Saver(tmp_path) as one:
    one.keep_best(arrays(1), {'step': 1})
    one.save(1, arrays(1), {'step': 1})
    assert gate.begun.wait(SECONDS) and gate.done == [] and one.step == 0

    def hand_over():
      one.save(2, arrays(2), {'step': 2})
      third.set()

    thread = threading.Thread(target=hand_over)
    thread.start()
    assert not third.wait(0.2)
    gate.open.set()
    assert third.wait(SECONDS)
    thread.join()
    one.wait()
    assert gate.done == ['best.npz', 'step-00000001.npz', 'step-00000002.npz'] and one.step == 2
  assert [checkpoint.read(path)[0]['model/w'][0] for path in checkpoint.saved(tmp_path)] == [2, 1]


def test_it_ends_with_all_written_and_without_a_thread(tmp_path, gate):
  before = threading.active_count()
  for step, failing in (1, False), (2, True):
    gate.open.clear()
    opens = threading.Timer(0.1, gate.open.set)
    opens.start()
    with contextlib.suppress(ValueError), saver.Saver(tmp_path) as one:
      one.save(step, arrays(step), {'step': step})
      if failing:
        raise ValueError
    assert checkpoint.saved(tmp_path)[0].name == f'step-0000000{step}.npz'
    opens.join()
  assert threading.active_count() == before


def test_a_failure_reaches_the_run_and_nothing_is_written_after_it(tmp_path, monkeypatch):
  write = checkpoint.write

  def full(workdir, name, *others):
    if name == 'step-00000002.npz':
      raise RunError('the disk is full')
    write(workdir, name, *others)

  monkeypatch.setattr(checkpoint, 'write', full)
  with saver.Saver(tmp_path) as one:
    one.save(1, arrays(1), {'step': 1})
    one.settle()
    one.check()
    one.save(2, arrays(2), {'step': 2})
    one._jobs.put(lambda: checkpoint.write(tmp_path, 'best.npz', arrays(3), {}))  # was handed over before it was known
    one.settle()
    for told in one.check, one.wait, lambda: one.keep_best(arrays(3), {}), lambda: one.save(3, arrays(3), {}):
      with pytest.raises(RunError, match='the disk is full'):
        told()
    assert one.step == 1
  assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['step-00000001.npz']


def test_the_lines_of_its_steps_are_on_the_disk_before_a_checkpoint(tmp_path, monkeypatch):
  synced, fsync = [], os.fsync

  def watched(handle):
    synced.append(os.path.basename(os.readlink(f'/proc/self/fd/{handle}')))
    fsync(handle)

  monkeypatch.setattr(os, 'fsync', watched)
  for there in True, False:  # somebody may have removed it
    path = layout.metrics_path(tmp_path)
    path.write_text('{"step": 1}\n') if there else path.unlink()
    synced.clear()
    with saver.Saver(tmp_path) as one:
      one.save(1, arrays(1), {'step': 1})
      one.wait()
    assert synced[:1] == ['metrics.jsonl'] if there else 'metrics.jsonl' not in synced
    assert synced[-1] == 'checkpoints'


def test_lines_that_do_not_reach_the_disk_are_a_failure(tmp_path, monkeypatch):
  def fails(handle):
    raise OSError(5, 'Input/output error')

  layout.metrics_path(tmp_path).write_text('{"step": 1}\n')
  monkeypatch.setattr(os, 'fsync', fails)
  with saver.Saver(tmp_path) as one:
    one.save(1, arrays(1), {'step': 1})
    with pytest.raises(RunError, match=r'metrics.jsonl: cannot be written \(Input/output error\)'):
      one.wait()
  assert checkpoint.saved(tmp_path) == []
