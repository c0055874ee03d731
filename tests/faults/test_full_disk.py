"""The disk is full, or fails, at any write of a save: one line says so, and the last good checkpoint loads."""
import errno
import itertools
import os
import subprocess

import numpy as np
import pytest

from charlm.commands import train
from charlm.workdir import checkpoint, layout, saver
from disk import Failing
from flags.errors import RunError
from runs import assert_same_run, flags

PAGE = os.sysconf('SC_PAGE_SIZE')
CODES = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS]


def arrays(step, size=5000):
  return {'model/w': np.full(size, step, np.float32)}


def save(workdir, *steps, size=5000):
  """Checkpoints of these steps, with best weights and a line each, as a run saves them."""
  with saver.Saver(workdir) as one:
    for step in steps:
      with open(layout.metrics_path(workdir), 'a') as file:
        file.write(f'{{"step": {step}}}\n')
      one.keep_best(arrays(step, size), {'step': step})
      one.save(step, arrays(step, size), {'step': step})
      one.wait()


def last(workdir):
  """-> the steps of the newest checkpoint and of the best weights, which are whole; 0 where there are none."""
  warnings = []
  found = checkpoint.newest(workdir, warn=warnings.append)
  best = checkpoint.read(checkpoint.best_path(workdir))[1]['step'] if checkpoint.has_best(workdir) else 0
  assert warnings == []
  return found[1]['step'] if found else 0, best


@pytest.mark.parametrize('code', CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize('before', [(), (1, 2)], ids=['first', 'third'])
def test_at_each_operation_of_a_save(tmp_path, monkeypatch, code, before):
  """Each that makes, writes, syncs, renames or removes something."""
  step, failed = len(before) + 1, []
  for number in itertools.count():
    workdir = tmp_path / str(number)
    workdir.mkdir()
    save(workdir, *before)
    with monkeypatch.context() as patch:
      failing = Failing(patch, number, OSError(code, os.strerror(code)))
      try:
        save(workdir, step)
      except RunError as error:
        assert os.strerror(code) in str(error) and str(workdir) in str(error) and '\n' not in str(error)
      else:
        assert failing.failed == ''
        break
    failed.append(failing.failed)
    resumed, best = last(workdir)
    assert resumed in (step - 1, step) and resumed <= best <= step
    if failing.failed != 'unlink':  # which is what removes it
      assert [*workdir.rglob('.*.tmp')] == []
    save(workdir, step)  # there is room again
    assert last(workdir) == (step, step)
  assert {*failed} >= {'open', 'write', 'fsync', 'replace', 'mkdir' if not before else 'unlink'} and number > 10


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 64 pages."""
  folder = tmp_path / 'small'
  folder.mkdir()
  try:
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={64 * PAGE}', 'none', folder], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('needs leave to mount a file system')
  yield folder
  subprocess.run(['umount', '--lazy', folder], check=True)


def test_with_any_number_of_pages_left(small_disk):
  told = 0
  for left in range(20):
    for path in small_disk.rglob('*.*'):
      path.unlink()
    save(small_disk, 1)
    ballast = small_disk / 'ballast'
    free = os.statvfs(small_disk).f_bavail
    ballast.write_bytes(bytes((free - left) * PAGE))
    try:
      save(small_disk, 2)
    except RunError as error:
      told += 1
      assert 'No space left on device' in str(error)
      resumed, best = last(small_disk)
      assert resumed == 1 and best in (1, 2)
      assert [*small_disk.rglob('.*.tmp')] == []
    ballast.unlink()
    save(small_disk, 2)
    assert last(small_disk) == (2, 2)
  assert 5 < told < 20


@pytest.mark.slow
def test_a_run_whose_disk_has_room_again_ends_in_the_same_bits(small_disk, corpus, finished, capsys):
  workdir = small_disk / 'run'
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, workdir, '--steps=40'))
  assert exit_.value.code == 1 and 'No space left on device' in capsys.readouterr().err.splitlines()[-1]
  last(workdir)
  subprocess.run(['mount', '-o', f'remount,size={4096 * PAGE}', small_disk], check=True)
  train.run(flags(corpus, workdir))
  assert_same_run(finished, workdir)
