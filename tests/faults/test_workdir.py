"""A workdir has one run at a time, holds more than charlm put there, and may be moved while a run is at work."""
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from charlm.commands import train
from charlm.training import trainer
from charlm.workdir import checkpoint, layout, lock, metrics, plot, tensorboard
from data_pipeline import atomic
from flags.errors import RunError, UserError
from runs import ROOT, assert_same_run, flags, start

DAY = 24 * 60 * 60
FEW = ['--steps=12', '--eval_every=6', '--sample_every=6']  # steps, with a checkpoint at 6


def told(capsys):
  return capsys.readouterr().err.splitlines()


def refused(arguments, capsys, status=2):
  """-> the last line that a command says which fails with this status."""
  with pytest.raises(SystemExit) as exit_:
    train.run(arguments)
  assert exit_.value.code == status
  return told(capsys)[-1]


# The lock.


def test_one_run_at_a_time(finished, capsys):
  with lock.locked(finished):
    assert 'another charlm-train is at work' in refused(['charlm-train', f'--workdir={finished}'], capsys)
    with pytest.raises(UserError):
      lock.locked(finished).__enter__()


@pytest.mark.slow
def test_of_two_that_start_at_once_one_trains(corpus, finished, tmp_path):
  processes = [start(corpus, tmp_path / 'run') for _ in range(2)]
  ends = sorted((process.communicate()[1], process.returncode) for process in processes)
  assert sorted(code for _, code in ends) == [0, 2]
  assert 'another charlm-train is at work' in next(text for text, code in ends if code == 2)
  assert_same_run(finished, tmp_path / 'run')


@pytest.mark.parametrize('code', sorted(lock.NO_LOCKS))
def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys, code):
  def unsupported(*args):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(fcntl, 'flock', unsupported)
  other = tmp_path / '.config.json.0123abcd.tmp'
  other.touch()
  with lock.locked(tmp_path):
    assert other.exists()  # of another run, perhaps
  assert told(capsys) == [f'notice: --workdir={tmp_path}: its file system has no locks ({os.strerror(code)}); let no '
                          'other charlm-train use it meanwhile']


def test_a_lock_that_fails_is_no_lack_of_locks(tmp_path, monkeypatch):
  def fails(*args):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr(fcntl, 'flock', fails)
  with pytest.raises(UserError, match=f'--workdir={tmp_path}/run: cannot be used'):
    lock.locked(tmp_path / 'run').__enter__()


@pytest.mark.parametrize('name', ['file/run', 'file', 'a\0b', 'x' * 300, 'loop'])
def test_a_folder_that_cannot_be(tmp_path, name):
  (tmp_path / 'file').touch()
  (tmp_path / 'loop').symlink_to('loop')
  with pytest.raises(UserError, match='cannot be used'):
    lock.locked(tmp_path / name).__enter__()


def test_what_a_refused_start_has_made_is_removed(tmp_path):
  (tmp_path / 'was').mkdir()
  for folder, left in ('was', True), ('was/a/b', False), ('new', False):
    with pytest.raises(RunError), lock.locked(tmp_path / folder):
      raise RunError('refused')
    assert (tmp_path / folder).exists() == left
  assert not (tmp_path / 'was/a').exists()
  with pytest.raises(RunError), lock.locked(tmp_path / 'full'):
    (tmp_path / 'full' / 'a').touch()
    raise RunError('refused')
  assert (tmp_path / 'full' / 'a').exists()


def test_a_folder_that_a_refused_start_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
  flock, folder = fcntl.flock, tmp_path / 'run'

  def removed(*args):
    flock(*args)
    if not removals:
      removals.append(folder.rmdir())

  removals = []
  monkeypatch.setattr(fcntl, 'flock', removed)
  with lock.locked(folder) as locked:
    assert os.fspath(locked) == str(folder) and folder.exists()


def before_lock(monkeypatch, do):
  """Has something happen once the flags are checked, before the lock is taken."""
  locked = lock.locked

  def later(workdir):
    monkeypatch.setattr(lock, 'locked', locked)
    do()
    return locked(workdir)

  monkeypatch.setattr(lock, 'locked', later)


def test_a_run_that_ended_in_between_is_gone_on_from(corpus, finished, tmp_path, monkeypatch, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  checkpoint.saved(workdir)[0].unlink()
  arguments, saves = flags(corpus, workdir), []
  before_lock(monkeypatch, lambda: train.run(arguments))
  save = checkpoint.save
  monkeypatch.setattr(checkpoint, 'save', lambda *args: (saves.append(args[1]), save(*args)))
  train.run(arguments)
  assert saves == [40]  # by the other one
  assert capsys.readouterr().out.count('Trained for 40 steps') == 2


def test_a_run_that_began_in_between_is_not_written_over(corpus, finished, tmp_path, monkeypatch, capsys):
  workdir = tmp_path / 'run'
  before_lock(monkeypatch, lambda: shutil.copytree(finished, workdir))
  line = refused(flags(corpus, workdir, '--seed=3'), capsys)
  assert '--seed=3 (was 0)' in line
  assert_same_run(finished, workdir)
  assert (workdir / 'config.json').read_bytes() == (finished / 'config.json').read_bytes()


# What somebody else has put there.

LINE = {'epoch': 0.5, 'tokens': 3, 'seconds': 1.0, 'train_nats_per_token': 2.5, 'valid_nats_per_token': 2.5,
        'gradient_norm': 0.5, **{f'gradient_norm_p{p}': 0.3 + p / 300 for p in metrics.PERCENTILES},
        'gradient_norm_max': 0.7, 'learning_rate': 0.1}
NOTES = [b'# looks good so far', b'', b'   ', b'{"note": "no step"}', b'[1, 2]', b'17', b'"step"', b'null', b'NaN',
         b'{"step": "5"}', b'{"step": null}', b'{"step": 2.5}', b'{"step": NaN}', b'{"step": true}', b'{"step": -1}',
         b'{"step": 5, "train_nats_per_token": "low", "gradient_norm_p50": null, "tokens": [1], "epoch": {"a": 1}}',
         b'{"step": 5, "train_nats_per_token": NaN, "gradient_norm_p10": Infinity, "gradient_norm_p50": -Infinity}',
         b'{"step": 5, "gradient_norm_p10": 1}', b'{"step": 5, "tokens": 1' + b'0' * 400 + b'}', b'\xff\xfe\x00n',
         '{"step": 5, "note": "наблюдение"}'.encode(), b'[' * 100000, b'{"note": "' + b'x' * 100000 + b'"}',
         b'\x00\x00', b'{"step": 5, "step": 5}\r', b'{"step": 5}']
LATER = [b'{"step": 20, "train_nats_per_token": 2.0}', b'{"step": 9223372036854775807}', b'{"step": 20']


def annotate(workdir):
  """A record with steps 5 to 20, and notes around each line."""
  lines = [json.dumps({'step': step, **LINE}).encode() for step in (5, 10)]
  (workdir / 'metrics.jsonl').write_bytes(b'\n'.join([lines[0], *NOTES, lines[1], *LATER]))


def test_everything_that_reads_the_record_passes_by_notes(tmp_path):
  annotate(tmp_path)
  read = metrics.read_metrics(layout.metrics_path(tmp_path))
  assert {line['step'] for line in read} == {5, 10, 20, 2**63 - 1} and len(read) > 4
  assert plot.draw(tmp_path).read_bytes().startswith(b'\x89PNG')
  with metrics.MetricWriter(tmp_path, 10) as writer:
    writer.write({'step': 15, **LINE})
  assert {line['step'] for line in metrics.read_metrics(layout.metrics_path(tmp_path))} == {5, 10, 15}


def test_notes_stay_when_a_run_goes_on(tmp_path):
  annotate(tmp_path)
  before = (tmp_path / 'metrics.jsonl').read_bytes().split(b'\n')
  for _ in range(2):
    with metrics.MetricWriter(tmp_path, 10):
      pass
    kept = (tmp_path / 'metrics.jsonl').read_bytes()
    assert kept.endswith(b'\n') and kept[:-1].split(b'\n') == [line for line in before if line not in LATER]


@pytest.mark.parametrize('cut', range(1, 12))
def test_a_line_that_a_kill_has_torn_goes(tmp_path, cut):
  whole = json.dumps({'step': 5, **LINE}).encode() + b'\n'
  (tmp_path / 'metrics.jsonl').write_bytes(whole + whole[:cut])
  with metrics.MetricWriter(tmp_path, 5):
    pass
  assert (tmp_path / 'metrics.jsonl').read_bytes() == whole


def test_an_edited_or_removed_record_is_written_on(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with metrics.MetricWriter(tmp_path, 0) as writer:
    path.write_text('a note without an end')
    writer.write({'step': 5})
    assert path.read_text() == 'a note without an end\n{"step": 5}\n'
    path.unlink()
    writer.write({'step': 10})
    assert path.read_text() == '{"step": 10}\n'
  path.unlink()
  with metrics.MetricWriter(tmp_path, 10):
    assert path.read_text() == ''


def test_a_run_with_a_record_of_somebody_elses(corpus, finished, tmp_path, capsys):
  """Through the command: a run goes on, ends, and is summed up."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  checkpoint.saved(workdir)[0].unlink()
  annotate(workdir)
  train.run(flags(corpus, workdir))
  assert '[' * 100000 in (workdir / 'metrics.jsonl').read_bytes().decode('latin-1')
  (workdir / 'metrics.jsonl').unlink()
  train.run(flags(corpus, workdir))
  assert capsys.readouterr().out.count('Trained for 40 steps') == 2


# A plot and TensorBoard's events never fail a run.


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), ValueError('no such font'),
                                   ImportError('no backend'), RuntimeError('broken\nmatplotlibrc'), MemoryError()])
def test_a_plot_that_fails_is_a_notice(tmp_path, monkeypatch, capsys, error):
  def fails(workdir):
    raise error

  monkeypatch.setattr(plot, 'draw', fails)
  plot.try_to_draw(tmp_path)
  line, = told(capsys)
  assert line.startswith(f'notice: {tmp_path}/plot.png was not drawn ({type(error).__name__}')


def test_a_folder_in_the_place_of_the_plot(corpus, tmp_path, capsys):
  (tmp_path / 'run' / 'plot.png').mkdir(parents=True)
  train.run(flags(corpus, tmp_path / 'run', *FEW))
  out, err = capsys.readouterr()
  assert 'Trained for 12 steps' in out and 'notice: ' in err and 'plot.png was not drawn' in err


@pytest.mark.slow
@pytest.mark.parametrize('variables', [
    {'MPLBACKEND': 'nonsense'}, {'MPLCONFIGDIR': '/proc/nowhere'}, {'MATPLOTLIBRC': '.'}], ids=str)
def test_settings_of_matplotlib_that_are_broken(corpus, tmp_path, variables):
  """TensorFlow imports matplotlib, too, in every command."""
  (tmp_path / 'matplotlibrc').write_text('lines.linewidth: wide\nfigure.dpi\nfont.family: nonsense\n')
  command = [sys.executable, '-m', 'charlm.commands.train', *flags(corpus, 'run', '--steps=2', '--sample_every=0')[1:]]
  result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT), **variables})
  assert result.returncode == 0 and 'Trained for 2 steps' in result.stdout, result.stderr
  *_, line = result.stderr.splitlines()
  assert line.startswith('notice: ') != (tmp_path / 'run' / 'plot.png').exists(), result.stderr
  assert len(result.stderr.splitlines()) <= 2, result.stderr  # a report, and a notice


@pytest.mark.parametrize('place', ['file', 'gone bad'])
def test_events_that_cannot_be_written_are_a_notice(tmp_path, monkeypatch, capsys, place):
  if place == 'file':
    (tmp_path / 'tensorboard').touch()
  with metrics.MetricWriter(tmp_path, 0) as writer:
    writer.write({'step': 5, **LINE})
    if place != 'file':
      def full(*args, **options):
        raise tf.errors.ResourceExhaustedError(None, None, 'events; No space left on device\nmore')

      monkeypatch.setattr(tf.summary, 'scalar', full)
    for step in (10, 15):
      writer.write({'step': step, **LINE})
      writer.write_sample(step, b'text')
  lines = told(capsys)
  assert len(lines) == 1 and 'going on without TensorBoard' in lines[0], lines
  assert [line['step'] for line in metrics.read_metrics(tmp_path / 'metrics.jsonl')] == [5, 10, 15]
  monkeypatch.undo()
  if place != 'file':
    with metrics.MetricWriter(tmp_path, 15):
      pass
    assert list((tmp_path / 'tensorboard').glob('events.out.*')) and not told(capsys)


# A folder that is moved.


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
  shutil.rmtree(workdir)
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
  train.run(flags(corpus, workdir, *FEW))
  out, err = capsys.readouterr()
  (new, before), = found
  assert err.count('was moved to') == 1 and 'the run goes on there' in err and f'--workdir={new}' in out
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


# What killed runs have left.


def unfinished(folder, name, age, *, inside=()):
  """A temporary file or folder that was last written so many seconds ago."""
  path = folder / name
  path.mkdir(parents=True) if inside else path.parent.mkdir(parents=True, exist_ok=True)
  for file, own in inside or [('', age)]:
    (path / file).write_bytes(b'half')
    os.utime(path / file, (time.time() - own,) * 2)
  os.utime(path, (time.time() - age,) * 2)
  return path


def test_what_was_not_touched_for_a_day_is_swept(tmp_path):
  old = [unfinished(tmp_path, '.config.json.0a1b2c3d.tmp', 2 * DAY),
         unfinished(tmp_path, '.key.a_b1c2d3.tmp', 2 * DAY, inside=[('train.tokens', 2 * DAY)])]
  live = [unfinished(tmp_path, '.best.npz.0a1b2c3d.tmp', 60), unfinished(tmp_path, '.later.0a1b2c3d.tmp', -9 * DAY),
          unfinished(tmp_path, '.live.abcdefgh.tmp', 2 * DAY, inside=[('train.tokens', 60)])]
  others = [unfinished(tmp_path, name, 9 * DAY) for name in (
      'kept.tmp', '.kept.tmp', '.kept.x1.tmp', '.kept.ABCDEFGH.tmp', '.key.0a1b2c3d', 'a.key.0a1b2c3d.tmp')]
  (tmp_path / '.link.0a1b2c3d.tmp').symlink_to(tmp_path / 'kept.tmp')
  os.utime(tmp_path / '.link.0a1b2c3d.tmp', (0, 0), follow_symlinks=False)
  atomic.sweep(tmp_path)
  assert set(tmp_path.iterdir()) == {*live, *others} and not any(path.exists() for path in old)
  atomic.sweep(tmp_path, at_once=True)
  assert set(tmp_path.iterdir()) == {*others}
  atomic.sweep(tmp_path / 'none')


def test_a_workdir_is_swept_at_once(tmp_path):
  left = [unfinished(tmp_path, name, 0) for name in (
      '.config.json.0a1b2c3d.tmp', 'samples/.step-00000005.txt.0a1b2c3d.tmp', 'checkpoints/.best.npz.0a1b2c3d.tmp')]
  with lock.locked(tmp_path):
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize('write', [lambda path: atomic.write(path, b''), lambda path: atomic.folder(path).__enter__()])
def test_whoever_writes_sweeps(tmp_path, write):
  """So the cache and the folders of exports are swept, too."""
  left = unfinished(tmp_path, '.other.0a1b2c3d.tmp', 2 * DAY)
  write(tmp_path / 'name')
  assert not left.exists()


def test_a_file_is_whole_in_a_folder_that_moves_while_it_is_written(tmp_path):
  (tmp_path / 'a').mkdir()
  with atomic.file(tmp_path / 'a' / 'name') as file:
    file.write(b'one')
    (tmp_path / 'a').rename(tmp_path / 'b')
    (tmp_path / 'a').mkdir()
    file.write(b'two')
  assert names(tmp_path) == {'a', 'b', 'b/name'} and (tmp_path / 'b' / 'name').read_bytes() == b'onetwo'


def test_files_of_the_future_do_no_harm(corpus, finished, tmp_path, capsys):
  """The clock was set back."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  checkpoint.saved(workdir)[0].unlink()
  for path in workdir.rglob('*'):
    os.utime(path, (time.time() + 999 * DAY,) * 2)
  train.run(flags(corpus, workdir))
  assert_same_run(finished, workdir)


def test_profiles_are_not_made_at_the_old_place(tmp_path, capsys):
  with lock.locked(tmp_path / 'run') as folder:
    board = tensorboard.TensorBoard(folder)
    with board.profile(0, range(3)):
      tf.constant(1.0) + 1.0
    (tmp_path / 'run').rename(tmp_path / 'new')
    with board.profile(1, range(3)):
      tf.constant(1.0) + 1.0
    board.close()
  assert not (tmp_path / 'run').exists()
