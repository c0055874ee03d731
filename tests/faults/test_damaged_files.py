"""Each file of a checkpoint, cut off, emptied or with a byte flipped: it is named and kept; the one before is used."""
import os
import shutil

import numpy as np
import pytest

from charlm.commands import train
from charlm.workdir import archive, checkpoint
from flags.errors import RunError
from runs import assert_same_run, flags


def cut(path):
  os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path):
  os.truncate(path, 0)


def flip(path):
  """One bit in the middle."""
  with open(path, 'r+b') as file:
    file.seek(path.stat().st_size // 2)
    byte = file.read(1)[0]
    file.seek(-1, os.SEEK_CUR)
    file.write(bytes([byte ^ 4]))


DAMAGES = [cut, empty, flip]


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_newest_and_the_best(corpus, finished, tmp_path, capsys, damage):
  """Both at once: the run goes on from the one before, and evaluates again."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  paths = checkpoint.saved(workdir)[0], checkpoint.best_path(workdir)
  for path in paths:
    damage(path)
  bad = [path.read_bytes() for path in paths]
  train.run(flags(corpus, workdir))
  err = capsys.readouterr().err
  for path, data in zip(paths, bad, strict=True):
    assert f'warning: {path}: the checkpoint is damaged' in err and f'it is now {path.name}.bad' in err
    assert path.with_name(f'{path.name}.bad').read_bytes() == data
  assert 'Using step-00000036.npz' in err and 'weights of the next evaluation take their place' in err
  assert_same_run(finished, workdir)


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_one_before_is_not_needed(finished, tmp_path, damage):
  shutil.copytree(finished, tmp_path / 'run')
  older = checkpoint.saved(tmp_path / 'run')[1]
  damage(older)
  warnings = []
  assert checkpoint.newest(tmp_path / 'run', set_aside=True, warn=warnings.append)[1]['step'] == 40 and not warnings
  checkpoint.saved(tmp_path / 'run')[0].unlink()
  with pytest.raises(RunError, match=f'none of its 1 checkpoints is whole; first: {older}'):
    checkpoint.newest(tmp_path / 'run', set_aside=True)


def test_cut_off_anywhere_and_with_bytes_too_many(tmp_path):
  checkpoint.save(tmp_path, 1, {'model/w': np.arange(9, dtype='f'), 'carry/0/0': np.zeros([2, 3], 'f')}, {'step': 1})
  path, = checkpoint.saved(tmp_path)
  data, (arrays, state) = path.read_bytes(), checkpoint.read(path)
  for size in range(len(data)):
    path.write_bytes(data[:size])
    with pytest.raises(archive.Damaged, match=str(path)):
      checkpoint.read(path)
  for wrong in data + b'more', b'more' + data, data * 2, data[:100] + data[110:], data[:100] + bytes(10) + data[100:]:
    path.write_bytes(wrong)
    try:
      found = checkpoint.read(path)
    except archive.Damaged:
      continue
    assert found[1] == state and all((found[0][key] == arrays[key]).all() for key in arrays)


def test_a_state_without_its_step_is_told_in_one_line(finished, tmp_path, capsys):
  """Alone, and where it takes the place of a damaged one."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  newest, before = checkpoint.saved(workdir)
  for path in newest, before:
    arrays, state = checkpoint.read(path)
    del state['step']
    checkpoint.write(workdir, path.name, arrays, state)
    with pytest.raises(SystemExit) as ended:
      train.run(['charlm-train', f'--workdir={workdir}'])
    line = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and "the state in its checkpoint has step='None'" in line
    newest.write_bytes(b'')
