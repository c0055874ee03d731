"""A checkpoint, a configuration or a tokenizer that cannot be read for a moment is not damaged."""
import errno
import functools
import io
import itertools
import os
import shutil

import numpy as np
import pytest

from charlm.commands import evaluate, export, sample, train
from charlm.workdir import archive, checkpoint, layout
from data_pipeline.tokenizers.registry import load_tokenizer
from flags.errors import RunError
from runs import complaint

# What a disk, a network or a busy machine may say of a sound file, and later not.
ERRORS = [*(OSError(code, os.strerror(code)) for code in (
    errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT)),
          MemoryError()]
FILES = ['checkpoints/step-00000040.npz', 'checkpoints/best.npz', 'config.json', 'tokenizer.json']


def save(folder, step, size=10):
  checkpoint.save(folder, step, {'model/w': np.full(size, step, np.float32)}, {'step': step})


def content(folder):
  """{name: bytes} of all files in a folder."""
  return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


class Failing(io.FileIO):
  """A file of which one call of read fails."""

  def __init__(self, path, number, error):
    super().__init__(path)
    self.left, self.error = number, error

  def readinto(self, buffer):
    self.left -= 1
    if self.left == -1:
      raise self.error
    return super().readinto(buffer)


def fail(monkeypatch, name, error, number=None):
  """Makes files of this name fail: when they are opened, or at one of the reads."""
  opens = open

  def fails(file, *args, **options):
    if not str(file).endswith(name):
      return opens(file, *args, **options)
    if number is None:
      raise error
    return Failing(file, number, error)

  monkeypatch.setattr('builtins.open', fails)
  monkeypatch.setattr('io.open', fails)


@pytest.mark.parametrize('error', ERRORS, ids=str)
def test_a_checkpoint_that_cannot_be_read_is_not_damaged(tmp_path, monkeypatch, error):
  """Whichever call it is that fails, also where zipfile would call it a BadZipFile."""
  save(tmp_path, 1)
  save(tmp_path, 2)
  before = content(tmp_path)
  for number in itertools.chain([None], itertools.count()):
    with monkeypatch.context() as patch:
      fail(patch, 'step-00000002.npz', error, number)
      try:
        assert checkpoint.newest(tmp_path, set_aside=True)[1] == {'step': 2}
        break
      except RunError as told:
        assert not isinstance(told, archive.Damaged) and 'step-00000002.npz: cannot be read' in str(told)
        assert (getattr(error, 'strerror', None) or 'not enough memory') in str(told)
  assert number >= 3 and content(tmp_path) == before


@pytest.mark.parametrize('error', ERRORS, ids=str)
def test_no_other_file_that_cannot_be_read_is_called_wrong(finished, monkeypatch, error):
  for name, read in ('config.json', layout.read_config), ('tokenizer.json', load_tokenizer):
    with monkeypatch.context() as patch, pytest.raises(RunError, match=f'{name}: cannot be read'):
      fail(patch, name, error)
      read(finished)


@pytest.mark.parametrize('name, error', [*zip(FILES, ERRORS[2:6], strict=True)], ids=str)
@pytest.mark.parametrize('command', ['train', 'evaluate', 'sample', 'export', 'init_from'])
def test_a_command_then_says_so_and_changes_nothing(finished, corpus, tmp_path, monkeypatch, capsys, command, name,
                                                    error):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  before, weights = content(workdir), 'best' if 'best' in name else 'last'
  if command == 'train' and 'best' in name:
    return  # a run that resumes does not read them
  run = {'train': lambda: train.run(['charlm-train', f'--workdir={workdir}']),
         'evaluate': lambda: evaluate.run(['charlm-evaluate', f'--workdir={workdir}', f'--weights={weights}']),
         'sample': lambda: sample.run(['charlm-sample', f'--workdir={workdir}', f'--weights={weights}']),
         'export': lambda: export.run(['charlm-export', f'--workdir={workdir}', f'--weights={weights}',
                                       f'--export_dir={tmp_path / "served"}']),
         'init_from': lambda: train.run(['charlm-train', f'--corpus={corpus}', f'--workdir={tmp_path / "new"}',
                                         f'--init_from={workdir}', f'--init_weights={weights}'])}[command]
  fail(monkeypatch, name, error)
  with pytest.raises(SystemExit) as exit_:
    run()
  monkeypatch.undo()
  assert exit_.value.code == 1
  line = complaint(capsys.readouterr().err)
  assert f'{workdir / name}: cannot be read ({error.strerror})' in line
  assert content(workdir) == before and [path.name for path in tmp_path.iterdir()] == ['run']


def refuse(monkeypatch, name, function, path):
  """Makes a function of os refuse a path, for a moment."""
  given = getattr(os, name)

  def refuses(asked, *args, **options):
    if os.fspath(asked) == str(path):
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    return given(asked, *args, **options)

  monkeypatch.setattr(os, name, refuses)
  with pytest.raises(RunError, match='cannot be read'):
    function()


def test_a_folder_that_cannot_be_listed_is_not_empty(finished, monkeypatch):
  """Else the run would begin anew, over the old one."""
  folder = finished / 'checkpoints'
  for name, path in ('scandir', folder), ('stat', folder / 'best.npz'):
    ask = checkpoint.saved if name == 'scandir' else checkpoint.has_best
    with monkeypatch.context() as patch:
      refuse(patch, name, functools.partial(ask, finished), path)


def test_one_that_a_run_has_removed_meanwhile_is_not_missed(tmp_path, monkeypatch):
  """Evaluate reads while a run saves."""
  save(tmp_path, 1)
  read = archive.read

  def removes(path):
    if path.name == 'step-00000001.npz':
      for step in (2, 3):
        save(tmp_path, step)
    return read(path)

  monkeypatch.setattr(archive, 'read', removes)
  assert checkpoint.newest(tmp_path)[1] == {'step': 3}
