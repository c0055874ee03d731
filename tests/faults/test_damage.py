"""A checkpoint is damaged where its contents are; only what charlm has written under its names is one."""
import errno
import json
import os
import shutil

import numpy as np
import pytest

from charlm.commands import evaluate, export, train
from charlm.workdir import archive, checkpoint, names
from flags.errors import RunError, UserError
from runs import flags


def save(folder, step, size=10):
  checkpoint.save(folder, step, {'model/w': np.full(size, step, np.float32)}, {'step': step})


def content(folder):
  """{name: bytes} of all files in a folder."""
  return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_damaged_ones_are_set_aside_by_the_run_that_goes_on(tmp_path):
  for step in (1, 2):
    save(tmp_path, step)
  path = checkpoint.saved(tmp_path)[0]
  for number, aside in enumerate(['step-00000002.npz.bad', 'step-00000002.npz-2.bad', 'step-00000002.npz-3.bad']):
    path.write_bytes(b'damaged %d' % number)
    warnings = []
    assert checkpoint.newest(tmp_path, warn=warnings.append)[1] == {'step': 1}  # who only reads changes nothing
    assert path.read_bytes() == b'damaged %d' % number and len(warnings) == 1
    assert checkpoint.newest(tmp_path, set_aside=True, warn=warnings.append)[1] == {'step': 1}
    assert len(warnings) == 2 and str(path) in warnings[1] and f'it is now {aside}. ' in warnings[1]
    assert not path.exists() and (path.parent / aside).read_bytes() == b'damaged %d' % number
  for step in (2, 3, 4):
    save(tmp_path, step)
  assert sorted(p.name for p in path.parent.iterdir()) == [
      *(f'step-00000002.npz{n}.bad' for n in ('-2', '-3', '')), 'step-00000003.npz', 'step-00000004.npz']


def test_where_all_are_damaged_all_stay(tmp_path):
  for step in (1, 2):
    save(tmp_path, step)
  for path in checkpoint.saved(tmp_path):
    os.truncate(path, 100)
  before = content(tmp_path)
  with pytest.raises(RunError, match='none of its 2 checkpoints is whole'):
    checkpoint.newest(tmp_path, set_aside=True)
  assert content(tmp_path) == before


def test_where_a_damaged_one_cannot_be_renamed_nothing_goes_on(tmp_path, monkeypatch):
  for step in (1, 2):
    save(tmp_path, step)
  os.truncate(checkpoint.saved(tmp_path)[0], 100)

  def refuse(*args):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))

  monkeypatch.setattr(os, 'rename', refuse)
  with pytest.raises(RunError, match='cannot be renamed'):
    checkpoint.newest(tmp_path, set_aside=True)


def test_an_export_says_which_weights_it_took(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'run')
  cases = ('best', False, 'best'), ('last', False, 'last'), ('best', True, 'last')
  for n, (flag, damaged, taken) in enumerate(cases):
    if damaged:
      (tmp_path / 'run' / 'checkpoints' / 'best.npz').write_bytes(b'damaged')
    export.run(['charlm-export', f'--workdir={tmp_path}/run', f'--export_dir={tmp_path}/{n}', f'--weights={flag}',
                '--format=safetensors'])  # the quickest
    assert json.loads((tmp_path / str(n) / 'charlm.json').read_text())['weights'] == taken


def test_best_weights_that_are_damaged(finished, corpus, tmp_path, capsys):
  """evaluate takes the last; a run without a checkpoint begins anew, and keeps them under another name."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  (workdir / 'checkpoints' / 'best.npz').write_bytes(b'damaged')
  evaluate.run(['charlm-evaluate', f'--workdir={workdir}'])
  out, err = capsys.readouterr()
  told = json.loads(out)
  assert (told['step'], told['weights']) == (40, 'last') and 'best.npz: the checkpoint is damaged' in err
  for path in checkpoint.saved(workdir):
    path.unlink()
  train.run(flags(corpus, workdir))
  assert 'best.npz.bad' in capsys.readouterr().err
  assert (workdir / 'checkpoints' / 'best.npz.bad').read_bytes() == b'damaged'
  assert checkpoint.read(workdir / 'checkpoints' / 'best.npz')


@pytest.mark.parametrize('lost', ['damaged', 'gone'])
def test_a_run_that_goes_on_writes_over_no_damaged_best_weights(finished, tmp_path, capsys, lost):
  """The weights of the next evaluation are the best then, whatever their loss, and again after the next resume."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  best, bad = checkpoint.best_path(workdir), workdir / 'checkpoints' / 'best.npz.bad'
  newest, = checkpoint.saved(workdir)[:1]
  arrays, state = checkpoint.read(newest)
  checkpoint.write(workdir, newest.name, arrays, {**state, 'best_nats': 0.01, 'finished': ''})  # out of reach
  config = workdir / 'config.json'
  config.write_text(config.read_text().replace('"steps": 40', '"steps": 60'))
  if lost == 'damaged':
    best.write_bytes(b'damaged')
  else:
    best.unlink()
  train.run(['charlm-train', f'--workdir={workdir}'])
  out, err = capsys.readouterr()
  assert ('it is now best.npz.bad. ' in err) == (lost == 'damaged') == bad.exists()
  assert err.count('weights of the next evaluation take their place') == 1
  assert bad.exists() is False or bad.read_bytes() == b'damaged'
  found = checkpoint.read(best)[1]
  assert 50 <= found['step'] <= 60 and found['best_nats'] > 0.01 and f'at step {found["step"]}' in out


def test_where_all_but_the_best_are_damaged_that_is_named(finished, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  for path in checkpoint.saved(workdir):
    path.write_bytes(b'damaged')

  def said(command, *arguments):
    with pytest.raises(SystemExit) as exit_:
      command.run([f'charlm-{command.__name__}', f'--workdir={workdir}', *arguments])
    assert exit_.value.code == 1
    return capsys.readouterr().err.splitlines()[-1]

  assert said(evaluate, '--weights=last').endswith(
      '. Bring one back (charlm-evaluate --weights=best takes the best weights, which are whole)')
  assert said(train).endswith(
      f'in another folder (charlm-train --init_from={workdir} begins with the best weights, which are whole)')
  checkpoint.best_path(workdir).write_bytes(b'damaged')
  for weights in 'best', 'last':
    assert said(evaluate, f'--weights={weights}').endswith('. Bring one back')


def test_a_configuration_that_is_no_text(finished, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  (workdir / 'config.json').write_bytes(b'{"\x80')
  with pytest.raises(SystemExit) as exit_:
    evaluate.run(['charlm-evaluate', f'--workdir={workdir}'])
  assert exit_.value.code == 2
  assert 'config.json: byte 0x80 at offset 2 is not UTF-8; expected the JSON that' in capsys.readouterr().err


def test_weights_set_aside_twice_are_kept_twice(tmp_path):
  best = checkpoint.best_path(tmp_path)
  for number in range(3):
    checkpoint.write(tmp_path, checkpoint.BEST, {'model/w': np.full(1, number)}, {'step': 8})
    checkpoint.set_best_aside(tmp_path)
  found = {p.name: checkpoint.read(p)[0]['model/w'][0] for p in best.parent.iterdir()}
  assert found == {'best-of-step-8.npz': 0, 'best-of-step-8-2.npz': 1, 'best-of-step-8-3.npz': 2}


def with_header(path, old, new):
  """Changes the header of the first array, and pads it to the same length."""
  data = path.read_bytes()
  begin = data.index(b"NUMPY")
  end = data.index(b'\n', begin)
  header = data[begin:end].rstrip().replace(old, new)
  assert len(header) <= end - begin and header != data[begin:end].rstrip()
  path.write_bytes(data[:begin] + header.ljust(end - begin) + data[end:])


@pytest.mark.parametrize('old, new', [
    (b"'shape': (10,), }", b"'shape': (9999999999999999,), }"),
    (b"'shape': (10,), }", b"'shape': (-10,), }"),
    (b"'shape': (10,), }", b"'shape': (10, 0), }"),
    (b"'<f4'", b"'<f8'"), (b"'<f4'", b"'|O'"), (b"'<f4'", b"'<U99999999'"), (b"'shape'", b"'shap\xff'"),
    (b"(10,), }", b"(10,), " + b'(' * 30), (b'NUMPY\x01', b'NUMPY\x09'),
], ids=str)
def test_sizes_are_compared_before_memory_is_asked_for(tmp_path, old, new):
  save(tmp_path, 1)
  path, = checkpoint.saved(tmp_path)
  with_header(path, old, new)
  with pytest.raises(archive.Damaged):
    checkpoint.read(path)


def test_too_little_memory_for_a_sound_file_is_no_damage(tmp_path, monkeypatch):
  def no_memory(*args, **options):
    raise MemoryError

  save(tmp_path, 1)
  monkeypatch.setattr(np.lib.format, 'read_array', no_memory)
  with pytest.raises(RunError, match=r'cannot be read \(not enough memory\)') as error:
    checkpoint.newest(tmp_path)
  assert not isinstance(error.value, archive.Damaged)


def test_a_compressed_or_planted_archive_is_no_checkpoint(tmp_path):
  path = tmp_path / 'step-00000001.npz'
  for write in (lambda: np.savez_compressed(path, state=np.zeros(9, np.uint8), digest=np.zeros(9, np.uint8)),
                lambda: np.savez(path, state=np.array([Planted()], object), digest=np.zeros(9, np.uint8)),
                lambda: np.savez(path), lambda: np.savez(path, state=np.zeros(9, np.uint8))):
    write()
    with pytest.raises(archive.Damaged):
      checkpoint.read(path)
  assert not Planted.ran


class Planted:
  """What would run code if it were unpickled."""
  ran = False

  def __reduce__(self):
    return (setattr, (Planted, 'ran', True))


NOT_OURS = ['step-old.npz', 'step-00000041 (conflicted copy).npz', 'step-00000040 (1).npz', 'step-000000041.npz',
            'step-41.npz', 'step-00000041.npz.bad', 'step-00000041.npz~', 'Step-00000041.npz',
            'best-of-step-00000041.npz', 'step-٠٠٠٠٠٠٤١.npz', 'step-00000041.npz.sync-conflict', ' step-00000041.npz',
            'step--0000041.npz', 'step-00000041.npz\n', '._step-00000041.npz']


def plant(folder, newest):
  """Puts into `checkpoints` what only looks like a checkpoint -> the names."""
  for name in NOT_OURS:
    shutil.copy(newest, folder / name)
  (folder / 'step-00000042.npz').mkdir()
  (folder / 'step-00000043.npz').symlink_to(newest)
  (folder / 'step-00000044.npz').symlink_to('nowhere')
  return {*NOT_OURS, *(f'step-0000004{n}.npz' for n in (2, 3, 4))}


def test_only_names_that_charlm_writes_are_checkpoints(tmp_path):
  for step in (1, 2):
    save(tmp_path, step)
  folder = tmp_path / 'checkpoints'
  planted = plant(folder, checkpoint.saved(tmp_path)[0])
  assert [p.name for p in checkpoint.saved(tmp_path)] == ['step-00000002.npz', 'step-00000001.npz']
  for step in (3, 99999999, 100000000, 100000001):
    save(tmp_path, step)
  assert [p.name for p in checkpoint.saved(tmp_path)] == ['step-100000001.npz', 'step-100000000.npz']
  assert {p.name for p in folder.iterdir()} == planted | {'step-100000001.npz', 'step-100000000.npz'}


def test_commands_and_resume_pass_by_what_is_not_theirs(finished, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  newest, before = checkpoint.saved(workdir)
  newest.rename(workdir / 'kept.npz')
  planted = plant(workdir / 'checkpoints', before)
  for text in 'step-00000040-best.txt', 'step-old.txt', 'notes.txt':
    (workdir / 'samples' / text).write_text('keep')
  evaluate.run(['charlm-evaluate', f'--workdir={workdir}', '--weights=last'])
  assert json.loads(capsys.readouterr().out)['step'] == 36
  train.run(['charlm-train', f'--workdir={workdir}'])
  assert [p.name for p in checkpoint.saved(workdir)] == ['step-00000040.npz', 'step-00000036.npz']
  assert planted <= {p.name for p in (workdir / 'checkpoints').iterdir()}
  assert {p.name for p in (workdir / 'samples').iterdir()} == {
      'step-00000040-best.txt', 'step-old.txt', 'notes.txt', 'step-00000020.txt', 'step-00000040.txt'}


def test_a_name_is_free_or_made_so(tmp_path):
  (tmp_path / 'a').symlink_to('nowhere')
  assert names.free(tmp_path / 'a').name == 'a-2' and names.free(tmp_path / 'b').name == 'b'


def test_another_format_is_told_of_although_there_is_an_older_one(tmp_path, monkeypatch):
  save(tmp_path, 1)
  monkeypatch.setattr(checkpoint, 'FORMAT_VERSION', checkpoint.FORMAT_VERSION + 1)
  save(tmp_path, 2)
  monkeypatch.undo()
  with pytest.raises(UserError, match='newer charlm'):
    checkpoint.newest(tmp_path, set_aside=True)
  assert len(checkpoint.saved(tmp_path)) == 2
