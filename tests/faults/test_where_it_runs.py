"""Folders that cannot be written, file systems that can do less, limits of memory, a cache that is cleared."""
import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from charlm.commands import train
from charlm.network import runtime
from charlm.training import chunks, trainer
from charlm.workdir import checkpoint
from data_pipeline import atomic, prepare, streams
from data_pipeline.rows import training_rows
from data_pipeline.token_files import TokenFile
from flags.data import DataConfig
from runs import ROOT, assert_same_run, complaint, flags, last, without_account

# In a mount namespace of its own everything is read-only, but for one folder.
READ_ONLY = '''
for m in /tmp /var/tmp /dev/shm /; do
  [ ! -d $m ] || { [ $m = / ] || mount --bind $m $m; mount -o remount,ro,bind $m; }
done
[ -z "$WRITABLE" ] || { mount --bind "$WRITABLE" "$WRITABLE"; mount -o remount,rw,bind "$WRITABLE"; }
! touch / /tmp/charlm-test 2>/dev/null || exit 77
exec "$@"
'''


# What cannot be written.


def where_all_is_read_only(command, *arguments, writable=''):
  """Runs a command where it can write to one folder only: not to its workdir, nor to any for temporary files."""
  result = subprocess.run(
    ['unshare', '--mount', 'sh', '-c', READ_ONLY, 'sh', sys.executable, '-m', f'charlm.commands.{command}', *arguments],
    cwd=ROOT, env={**os.environ, 'WRITABLE': str(writable), 'PYTHONDONTWRITEBYTECODE': '1'}, text=True,
    capture_output=True)
  if 'unshare:' in result.stderr or 'mount:' in result.stderr or result.returncode == 77:
    pytest.skip(f'no mount namespace here: {result.stderr[:100]}')
  return result


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('unshare'), reason='no mount namespaces')
def test_a_model_is_used_where_all_is_read_only(finished, tmp_path):
  (tmp_path / 'served').mkdir()
  for command, others, words in (
      ('sample', ['--length=5', '--prompt=It'], 'It'), ('evaluate', [], '"split": "valid"'),
      ('export', [f'--export_dir={tmp_path / "served"}'], f'{tmp_path / "served"}/1')):
    result = where_all_is_read_only(command, f'--workdir={finished}', *others, writable=tmp_path / 'served')
    assert result.returncode == 0 and words in result.stdout and 'Traceback' not in result.stderr, (command, result)
    # TensorFlow warns of a graph that it need not rewrite.
    assert not without_account(result.stderr) or command == 'export', result
  assert (tmp_path / 'served' / '1' / 'saved_model.pb').exists()
  result = where_all_is_read_only('train', f'--workdir={finished}')
  assert result.returncode == 1 and complaint(result.stderr), result
  assert f'--workdir={finished} cannot be written' in result.stderr and 'Read-only' in result.stderr


@pytest.mark.parametrize('code', sorted(atomic.NO_SYNC))
def test_a_file_system_that_cannot_sync(tmp_path, monkeypatch, code):
  def unsupported(*args, **options):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(os, 'fsync', unsupported)
  monkeypatch.setattr(os, 'chmod', unsupported)
  atomic.write(tmp_path / 'a', b'data')
  with atomic.folder(tmp_path / 'b') as folder:
    (folder / 'c').write_bytes(b'data')
  assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b' / 'c').read_bytes() == b'data'


@pytest.mark.parametrize('code', [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_fails_is_an_error(tmp_path, monkeypatch, code):
  def fails(*args):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(os, 'fsync', fails)
  with pytest.raises(OSError):
    atomic.write(tmp_path / 'a', b'data')
  assert not list(tmp_path.iterdir())


# TensorFlow's cluster, which is none of charlm's.


@pytest.mark.slow
@pytest.mark.parametrize('given', ['not JSON', '[1]', '17', '{"cluster": 3}', '{"task": "x"}', json.dumps(
  {'cluster': {'worker': ['nowhere.invalid:1', 'nowhere.invalid:2']}, 'task': {'type': 'worker', 'index': 1}})])
def test_a_broken_cluster_is_ignored(corpus, tmp_path, given):
  command = [sys.executable, '-m', 'charlm.commands.train',
             *flags(corpus, tmp_path / 'run', '--steps=2', '--eval_every=0', '--sample_every=0')[1:]]
  result = subprocess.run(command, cwd=ROOT, env={**os.environ, 'TF_CONFIG': given}, text=True, capture_output=True,
                          timeout=300)
  assert result.returncode == 0 and 'Trained for 2 steps' in result.stdout, result.stderr
  assert 'Traceback' not in result.stderr


# Memory.

MACHINE = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


@pytest.mark.parametrize('lines, limits, wanted', [
  ('', {}, MACHINE),
  ('0::/\n', {'memory.max': '1000000\n'}, 1000000),  # a container of version 2
  ('0::/\n', {'memory.max': 'max\n'}, MACHINE),
  ('0::/a/b\n', {'a/b/memory.max': 'max\n', 'a/memory.max': '2000000\n'}, 2000000),
  ('0::/a/b\n', {'a/b/memory.max': '1000000\n', 'a/memory.max': '2000000\n'}, 1000000),
  ('0::/a/b\n', {'a/c/memory.max': '1000000\n'}, MACHINE),  # another's
  ('0::/../x\n', {'memory.max': '3000000'}, 3000000),
  ('4:memory:/docker/1\n0::/\n', {'memory/memory.limit_in_bytes': '1000000\n'}, 1000000),  # a container of version 1
  ('4:memory:/a/b\n', {'memory/a/memory.limit_in_bytes': '5000000'}, 5000000),
  ('4:cpu,memory:/a\n', {'memory/a/memory.limit_in_bytes': '5000000'}, 5000000),
  ('4:memory:/\n', {'memory/memory.limit_in_bytes': '9223372036854771712\n'}, MACHINE),
  ('4:cpu:/a\n4:memory:/\n', {'memory/a/memory.limit_in_bytes': '1000000'}, MACHINE),
  ('3:memory:/a\n0::/b\n', {'unified/b/memory.max': '7000000', 'memory/a/memory.limit_in_bytes': '-1'}, 7000000),
  ('garbage\n\n::\n0::/é\n', {'é/memory.max': '1000000'}, 1000000),
  ('0::/a\n', {'a/memory.max': 'much'}, MACHINE),
])
def test_the_limit_of_a_container_counts(tmp_path, lines, limits, wanted):
  (tmp_path / 'groups').mkdir()
  (tmp_path / 'cgroup').write_text(lines)
  for name, text in limits.items():
    path = tmp_path / 'groups' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  assert runtime.memory_bytes(tmp_path / 'groups', tmp_path / 'cgroup') == wanted


def test_no_control_groups_at_all(tmp_path):
  assert runtime.memory_bytes(tmp_path / 'none', tmp_path / 'none') == MACHINE


# The cache, which anybody may clear at any time.


def clear_after(monkeypatch, owner, name, cache):
  """Has the whole cache be removed after the first call of a function."""
  function = getattr(owner, name)

  def clears(*args, **options):
    result = function(*args, **options)
    shutil.rmtree(cache, ignore_errors=True)
    return result

  monkeypatch.setattr(owner, name, clears)


@pytest.mark.parametrize('owner, name', [(prepare, 'tokenize'), (chunks.TrainingChunks, 'next'),
                                         (trainer.Trainer, '_report')], ids=['prepared', 'begun', 'reported'])
@pytest.mark.parametrize('others', [[], pytest.param(
    ['--document_reset', '--document_separator=times.'], marks=pytest.mark.slow)], ids=['', 'documents'])
def test_a_cache_that_is_cleared_meanwhile(corpus, tmp_path, monkeypatch, capsys, owner, name, others):
  """The run reads on; an evaluation and another chunk length open the files again."""
  arguments = flags(corpus, tmp_path / 'run', f'--cache_dir={tmp_path / "cache"}', '--steps=12', '--eval_every=4',
                    '--sample_every=0', '--chunk_curriculum=8,16', *others)
  clear_after(monkeypatch, owner, name, tmp_path / 'cache')
  train.run([f for f in arguments if not f.startswith('--chunk_length')])
  assert 'Trained for 12 steps' in capsys.readouterr().out and not (tmp_path / 'cache').exists()
  assert checkpoint.saved(tmp_path / 'run')


def test_where_files_have_no_other_name_the_cache_is_named(corpus, tmp_path, monkeypatch, capsys):
  """Without /proc the files cannot be opened again. The run says so, and blames neither disk nor workdir."""
  exists = os.path.exists
  monkeypatch.setattr(os.path, 'exists', lambda path: not str(path).startswith('/proc/self/fd') and exists(path))
  arguments = flags(corpus, tmp_path / 'run', f'--cache_dir={tmp_path / "cache"}')
  with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_:
    clear_after(patch, checkpoint, 'save', tmp_path / 'cache')
    train.run(arguments)
  line = capsys.readouterr().err.splitlines()[-1]
  assert exit_.value.code == 1 and 'somebody has cleared the cache' in line and 'valid.tokens' in line
  assert f'it goes on from step {last(tmp_path / "run")[1]["step"]}' in line
  train.run(arguments)


def test_token_files_are_closed_once_nothing_reads_them(tmp_path):
  file = TokenFile(str(tmp_path / 'tokens'), 'uint8', 500, 500, 500, 1, 1, 0)
  (tmp_path / 'tokens').write_bytes(bytes(range(250)) * 2)
  stream = iter(streams.training_stream(streams.mapped(file), training_rows(500, 2), length=5, stride=5))
  handles = len(os.listdir('/proc/self/fd'))
  del file
  os.unlink(tmp_path / 'tokens')
  for _ in range(100):
    assert next(stream).tokens.shape == (2, 6)
  assert len(os.listdir('/proc/self/fd')) <= handles
  del stream


def test_files_do_not_stay_open(corpus, tmp_path):
  def prepare_once():
    assert prepare.prepare(DataConfig(corpus=corpus, cache_dir=str(tmp_path)))[1]['train'].tokens.size

  prepare_once()
  handles = len(os.listdir('/proc/self/fd'))
  for _ in range(20):
    prepare_once()
  assert len(os.listdir('/proc/self/fd')) == handles


def test_a_lack_of_handles_is_no_lack_of_memory(corpus, tmp_path, monkeypatch, capsys):
  def step(*args, **options):
    raise tf.errors.ResourceExhaustedError(None, None, 'valid.tokens; Too many open files')

  monkeypatch.setattr(chunks.TrainingChunks, 'next', step)
  with pytest.raises(SystemExit):
    train.run(flags(corpus, tmp_path / 'run'))
  line = capsys.readouterr().err.splitlines()[-1]
  assert 'Too many open files' in line and 'memory' not in line and 'cannot be written' not in line


def test_a_closed_terminal_is_not_the_workdirs_fault(corpus, finished, tmp_path, monkeypatch, capsys):
  from charlm.training.terminal import Terminal

  def closed(*args):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  with monkeypatch.context() as patch:
    patch.setattr(Terminal, 'report', closed)
    with pytest.raises((OSError, SystemExit)):
      train.run(flags(corpus, tmp_path / 'run'))
    assert 'cannot be written' not in capsys.readouterr().err
  train.run(flags(corpus, tmp_path / 'run'))
  assert_same_run(finished, tmp_path / 'run')
