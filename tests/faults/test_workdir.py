"""A workdir has one run at a time, which reads what it goes on from, and sweeps what killed ones have left."""
import errno
import fcntl
import os
import shutil
import time

import pytest

from charlm.commands import train
from charlm.workdir import checkpoint, lock
from data_pipeline import atomic
from flags.errors import RunError, UserError
from runs import assert_same_run, flags, refused, start, told

DAY = 24 * 60 * 60


def test_one_run_at_a_time(finished, capsys):
  with lock.locked(finished):
    line = refused(['charlm-train', f'--workdir={finished}'], capsys)
    assert line.endswith(f'--workdir={finished}: another charlm-train is at work there; expected one of its own'), line
    assert line.count('--workdir') == 1
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


@pytest.mark.parametrize('name', ['file/run', 'file', 'a\0b', 'x' * 300, 'n/' * 2000, 'loop'])
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


def test_files_of_the_future_do_no_harm(corpus, finished, tmp_path, capsys):
  """The clock was set back."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  checkpoint.saved(workdir)[0].unlink()
  for path in workdir.rglob('*'):
    os.utime(path, (time.time() + 999 * DAY,) * 2)
  train.run(flags(corpus, workdir))
  assert_same_run(finished, workdir)
