"""A workdir is moved, replaced or removed while a run is at work in it."""
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from charlm.commands import train
from charlm.training import trainer
from charlm.workdir import checkpoint, lock, metrics, tensorboard
from data_pipeline import atomic
from flags import typed
from runs import flags, refused, told

FEW = ['--steps=12', '--eval_every=6', '--sample_every=6']  # steps, with a checkpoint at 6


def moved(workdir, place):
  """Moves, replaces or removes a workdir -> where it is now, None where it is gone."""
  if place == 'moved':
    (workdir.parent / 'other').mkdir()
    return workdir.rename(workdir.parent / 'other' / 'новый run')
  if place == 'replaced':
    new = workdir.rename(workdir.with_name('renamed'))
    (workdir / 'checkpoints').mkdir(parents=True)
    (workdir / 'note').write_text('of another run')
    return new
  if place == 'link':
    target = workdir.rename(workdir.with_name('target'))
    workdir.symlink_to(target.with_name('elsewhere'))
    (workdir.with_name('elsewhere')).mkdir()
    return target
  while workdir.exists():  # the run is at work in it
    shutil.rmtree(workdir, ignore_errors=True)
  if place == 'made anew':
    workdir.mkdir()
  return None


def names(folder):
  return {str(path.relative_to(folder)) for path in folder.rglob('*')} if folder.exists() else set()


@pytest.mark.parametrize('place', ['moved', 'replaced', 'link'])
@pytest.mark.parametrize('moment', ['report', 'save', 'best', 'sample', 'write'])
def test_a_run_goes_on_where_its_folder_is_now(corpus, tmp_path, monkeypatch, capsys, place, moment):
  if place != 'moved' and moment not in ('save', 'write'):
    return
  workdir, found = tmp_path / 'run', []
  owner, name = {'report': (trainer.Trainer, '_report'), 'save': (checkpoint, 'save'), 'best': (checkpoint, 'write'),
                 'sample': (metrics.MetricWriter, 'write_sample'), 'write': (np, 'savez')}[moment]
  function = getattr(owner, name)

  def moves(*args, **options):
    if not found:
      found.append((moved(workdir, place), names(workdir)))
    return function(*args, **options)

  monkeypatch.setattr(owner, name, moves)
  monkeypatch.setattr(trainer.Saver, '_hand_over', lambda self, job: job())  # so that nothing else is written meanwhile
  train.run(flags(corpus, workdir, *FEW))
  out, err = capsys.readouterr()
  (new, before), = found
  assert err.count('was moved to') == 1 and 'the run goes on there' in err and typed.flag('workdir', new) in out
  assert names(workdir) == before
  assert {'config.json', 'tokenizer.json', 'metrics.jsonl', 'plot.png', 'tensorboard', 'samples',
          'samples/step-00000012.txt', 'checkpoints/best.npz', 'checkpoints/step-00000006.npz',
          'checkpoints/step-00000012.npz'} <= names(new)
  assert [line['step'] for line in metrics.read_metrics(new / 'metrics.jsonl')] == [5, 6, 10, 12]
  assert not list(new.rglob('.*.tmp'))
  monkeypatch.undo()
  train.run(['charlm-train', f'--workdir={new}'])
  assert 'Trained for 12 steps' in capsys.readouterr().out


@pytest.mark.parametrize('place', ['removed', 'made anew', 'no one knows where'])
def test_a_run_whose_folder_is_gone_stops_and_makes_no_other(corpus, tmp_path, monkeypatch, capsys, place):
  workdir, save, found = tmp_path / 'run', checkpoint.save, []

  def goes(*args):
    if not found:
      if place == 'no one knows where':
        monkeypatch.setattr(lock, '_place', lambda handle: '')
      found.append(moved(workdir, place if place != 'no one knows where' else 'replaced'))
      found.append(names(workdir))
    save(*args)

  monkeypatch.setattr(checkpoint, 'save', goes)
  line = refused(flags(corpus, workdir, *FEW), capsys, 1)
  assert f'--workdir={workdir}: this folder was removed or replaced' in line
  assert names(workdir) == found[1] and workdir.exists() == (place != 'removed')


def test_a_folder_that_is_the_same_under_another_number_is_not_moved(tmp_path, monkeypatch, capsys):
  with lock.locked(tmp_path) as folder:
    monkeypatch.setattr(os.path, 'samestat', lambda *stats: False)
    assert os.fspath(folder) == str(tmp_path) and not told(capsys)


def test_a_file_is_whole_in_a_folder_that_moves_while_it_is_written(tmp_path):
  (tmp_path / 'a').mkdir()
  with atomic.file(tmp_path / 'a' / 'name') as file:
    file.write(b'one')
    (tmp_path / 'a').rename(tmp_path / 'b')
    (tmp_path / 'a').mkdir()
    file.write(b'two')
  assert names(tmp_path) == {'a', 'b', 'b/name'} and (tmp_path / 'b' / 'name').read_bytes() == b'onetwo'


def test_profiles_are_not_made_at_the_old_place(tmp_path, capsys):
  with lock.locked(tmp_path / 'run') as folder:
    board = tensorboard.TensorBoard(folder)
    with board.profile(0, 1, range(3)):
      tf.constant(1.0) + 1.0
    (tmp_path / 'run').rename(tmp_path / 'new')
    with board.profile(1, 1, range(3)):
      tf.constant(1.0) + 1.0
    board.close()
  assert not (tmp_path / 'run').exists()
