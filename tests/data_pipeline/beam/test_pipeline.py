"""Apache Beam's local runner makes what one process makes, says what went wrong, and leaves no process behind."""
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from corpora import fill, one_line
from data_pipeline.beam import make, pipeline
from flags.errors import UserError
from flags.prepare import PrepareConfig
from prepared import prepared
from source_tree import ROOT

needs_beam = pytest.mark.skipif(__import__('importlib').util.find_spec('apache_beam') is None,
                                reason="apache_beam is not installed: pip install -e '.[beam]'")
TEXT = 'It was the best of times, ä.\n' * 100


def by_beam(corpus, folder, **flags):
  config = PrepareConfig(corpus=str(corpus), tokens_dir=str(folder), workers=2, valid_fraction=0.1, **flags)
  return make.make(config, pipeline.Runner(config))


@needs_beam
def test_two_processes_make_what_one_makes(tmp_path, monkeypatch):
  corpus = fill(tmp_path / 'texts', **{f'{name}_txt': f'{name} {TEXT}'.encode() for name in 'abc'})
  monkeypatch.setattr('data_pipeline.beam.cuts.PIECE_BYTES', 2000)
  flags = {'tokenizer': 'char', 'document_reset': True}
  prepared(corpus, tmp_path / 'one', **flags)
  by_beam(corpus, tmp_path / 'two', **flags)
  assert sorted(os.listdir(tmp_path)) == ['one', 'texts', 'two']
  assert len(os.listdir(tmp_path / 'one')) > 5
  for path in (tmp_path / 'one').iterdir():
    assert path.read_bytes() == (tmp_path / 'two' / path.name).read_bytes()


@needs_beam
def test_a_mistake_in_the_text_is_one_line(tmp_path):
  (tmp_path / 'text').write_bytes(TEXT.encode() + b'\xff\n')
  with pytest.raises(UserError) as error:
    by_beam(tmp_path / 'text', tmp_path / 'tokens', tokenizer='char')
  assert f'{tmp_path}/text: byte 0xff at offset' in one_line(error)
  assert not (tmp_path / 'tokens').exists()


@needs_beam
@pytest.mark.slow
@pytest.mark.parametrize('whom', ['worker', 'command'])
def test_a_process_that_is_killed(tmp_path, whom):
  """The command says so and leaves none behind; the same command goes on."""
  (tmp_path / 'text').write_bytes(b'It was the best of times.\n' * 10_000_000)
  command = [sys.executable, '-m', 'charlm.commands.prepare', f'--corpus={tmp_path}/text',
             f'--tokens_dir={tmp_path}/tokens', '--workers=2', '--tokenizer=char']
  running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  try:
    while not (workers_of(tmp_path) and list((tmp_path / '.tokens.making').glob('*.json'))):
      assert running.poll() is None, running.communicate()
      time.sleep(0.01)
    os.kill(workers_of(tmp_path)[0] if whom == 'worker' else running.pid, signal.SIGKILL)
    _, err = running.communicate(timeout=60)
  finally:
    running.kill()
  assert running.returncode == (1 if whom == 'worker' else -signal.SIGKILL)
  if whom == 'worker':
    last = err.splitlines()[-1]
    assert 'Apache Beam failed (' in last and 'Run the same command again' in last and 'Traceback' not in err
  assert not (tmp_path / 'tokens').exists()
  for _ in range(100):
    if not workers_of(tmp_path):
      break
    time.sleep(0.1)
  assert not workers_of(tmp_path)
  done = len(list((tmp_path / '.tokens.making').glob('*.json')))
  subprocess.run(command, cwd=ROOT, check=True, timeout=100)
  assert (tmp_path / 'tokens' / 'tokens.json').exists() and done >= 0


def workers_of(folder):
  """The processes whose command names a folder."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      line = path.read_bytes()
    except OSError:
      continue
    if b'data_pipeline.beam.worker' in line and os.fsencode(folder) in line:
      found.append(int(path.parent.name))
  return found


@needs_beam
def test_a_runner_that_there_is_not(tmp_path):
  with pytest.raises(UserError) as error:
    pipeline.Runner(PrepareConfig(corpus='x', tokens_dir='y', runner='NoSuchRunner'))
  assert '--runner=NoSuchRunner: expected one of' in one_line(error)


@needs_beam
def test_a_runner_of_another_name(tmp_path):
  (tmp_path / 'text').write_text(TEXT)
  config = PrepareConfig(corpus=str(tmp_path / 'text'), tokens_dir=str(tmp_path / 'tokens'),
                         runner='BundleBasedDirectRunner')
  one = prepared(tmp_path / 'text', tmp_path / 'one', valid_fraction=0.01)
  assert make.make(config, pipeline.Runner(config)).content == one.content


def test_without_beam(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError) as error:
    pipeline.Runner(PrepareConfig(corpus='x', tokens_dir='y', workers=2))
  assert "--workers=2: expected Apache Beam to be installed; pip install -e '.[beam]'" in one_line(error)
  assert pipeline.Runner(PrepareConfig(corpus='x', tokens_dir='y', workers=1))
