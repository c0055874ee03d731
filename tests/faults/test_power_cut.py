"""Power is lost: what was not synced is gone, and the last checkpoint is whole."""
import os
import shutil
import stat

import numpy as np
import pytest

from charlm.commands import train
from charlm.workdir import checkpoint, layout, metrics, saver
from data_pipeline import atomic
from disk import PowerCut, restore
from flags.errors import RunError
from runs import assert_same_run, flags


def state(step):
  return {'step': step, 'best_step': step // 2 * 2}  # each second step is the best


def one_run(workdir, power, steps=6):
  """What a run writes: lines, best weights, checkpoints. It has reached the step of the last one that is saved."""
  power.reached(0)
  atomic.make_folder(workdir)
  atomic.write(layout.metrics_path(workdir), b'')
  for step in range(1, steps + 1):
    with saver.Saver(workdir) as one:
      with open(layout.metrics_path(workdir), 'a') as file:
        file.write(f'{{"step": {step}}}\n')
      arrays = {'model/w': np.full(1000, step, np.float32)}
      if state(step)['best_step'] == step:
        one.keep_best(arrays, state(step))
      one.save(step, arrays, state(step))
    power.reached(step)


def lost(mark, files, folder):
  """-> what is wrong with what is left, '' where nothing is. mark: the step that was saved."""
  restore(files, folder)
  warnings = []
  found = checkpoint.newest(folder, warn=warnings.append)
  if warnings or (found is None and mark) or (found and found[1]['step'] < mark):
    return f'{found and found[1]} in place of {mark}, {warnings}'
  if found is None:
    return ''
  step, best = found[1]['step'], found[1]['best_step']
  if [line['step'] for line in metrics.read_metrics(layout.metrics_path(folder))][:step] != [*range(1, step + 1)]:
    return f'lines of step {step}'
  if best and checkpoint.read(checkpoint.best_path(folder))[1]['step'] < best:
    return f'best weights of step {best}'
  return ''


def losses(monkeypatch, tmp_path):
  """What is wrong after a loss of power, for each moment of a run at which something is."""
  (tmp_path / 'disk').mkdir()
  with monkeypatch.context() as patch:
    power = PowerCut(patch, tmp_path / 'disk')
    one_run(tmp_path / 'disk' / 'runs' / 'mine', power)
  found, marks = [], {mark for mark, _ in power.left}
  assert marks == {*range(7)} and len(power.left) > 80
  for number, (mark, files) in enumerate(power.left):
    folder = tmp_path / str(number)
    folder.mkdir()
    try:
      found.append(lost(mark, {path.removeprefix('runs/mine/'): data for path, data in files.items()}, folder))
    except (RunError, OSError) as error:
      found.append(str(error))
    shutil.rmtree(folder)
  return [what for what in found if what]


def test_whenever_power_is_lost_the_last_checkpoint_is_whole(monkeypatch, tmp_path):
  assert losses(monkeypatch, tmp_path) == []


@pytest.mark.parametrize('kind', ['files', 'folders', 'new folders', 'lines'])
def test_that_can_fail(monkeypatch, tmp_path, kind):
  """Without one kind of fsync something is lost."""
  sync, sync_path = atomic._sync, atomic.sync
  skipped = {'files': stat.S_ISREG, 'folders': stat.S_ISDIR}.get(kind, lambda mode: False)
  with monkeypatch.context() as patch:
    patch.setattr(atomic, '_sync', lambda handle: skipped(os.fstat(handle).st_mode) or sync(handle))
    if kind in ('new folders', 'lines'):
      patch.setattr(atomic, 'sync', lambda path: os.path.isdir(path) == (kind == 'new folders') or sync_path(path))
    assert losses(patch, tmp_path) != []


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_bits(monkeypatch, corpus, finished, tmp_path):
  (tmp_path / 'disk').mkdir()
  save = checkpoint.save
  with monkeypatch.context() as patch:
    power = PowerCut(patch, tmp_path / 'disk')

    def marks(workdir, step, *others):
      save(workdir, step, *others)
      power.reached(step)

    patch.setattr(checkpoint, 'save', marks)
    train.run(flags(corpus, tmp_path / 'disk' / 'run'))
  moments = [(mark, files) for mark, files in power.left if mark]
  for number, (mark, files) in enumerate(moments):
    folder = tmp_path / str(number)
    restore(files, folder)
    assert checkpoint.newest(folder / 'run')[1]['step'] >= mark
    if number % (len(moments) // 3) == 0:
      train.run(flags(corpus, folder / 'run'))
      assert_same_run(finished, folder / 'run')
    shutil.rmtree(folder)
