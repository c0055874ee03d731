"""Where no tokens can be kept, the commands that use a model do without; a cache that was asked for is told of."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

from charlm.commands import evaluate, sample
from data_pipeline import prepare
from flags.data import DataConfig
from flags.errors import UserError
from runs import ROOT, TEXT, without_account


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
  """A cache that cannot be made: a file is in its place."""
  place = tmp_path / 'file'
  place.write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(place))
  return place


def figures(capsys, *arguments):
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', *arguments])
  told = capsys.readouterr()
  return json.loads(told.out), without_account(told.err)


@pytest.mark.parametrize('where', ['default', 'of the run', 'gone with all above it'])
def test_evaluate_does_without_a_cache(finished, tmp_path, no_cache, capsys, where):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  config = json.loads((workdir / 'config.json').read_text())
  if where != 'default':
    config['data']['cache_dir'] = 'cache'
    config['places']['cache_dir'] = str(no_cache / 'cache') if where == 'of the run' else '/none/of/this/cache'
  (workdir / 'config.json').write_text(json.dumps(config))
  found, told = figures(capsys, f'--workdir={workdir}')
  assert found['split'] == 'valid' and found['tokens'] == len(TEXT) // 10 - 1
  assert told.startswith('notice: the cache: ') and told.count('\n') == 1
  assert not pathlib.Path('/none').exists() and no_cache.read_text() == ''
  kept, told = figures(capsys, f'--workdir={workdir}', f'--cache_dir={tmp_path / "new"}')
  assert kept == {**found, 'workdir': str(workdir)} and told == ''
  assert (tmp_path / 'new' / 'tokens').is_dir()


def test_a_cache_that_was_asked_for_is_told_of(finished, no_cache, capsys):
  with pytest.raises(SystemExit) as exit_:
    evaluate.run(['charlm-evaluate', f'--workdir={finished}', f'--cache_dir={no_cache}'])
  told = without_account(capsys.readouterr().err)
  assert exit_.value.code == 2 and told.count('\n') == 1 and f'--cache_dir={no_cache}' in told


def test_sample_needs_no_cache_and_no_text(finished, tmp_path, no_cache, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  config = json.loads((workdir / 'config.json').read_text())
  config['data']['corpus'], config['places'] = '/gone/book.txt', {}
  (workdir / 'config.json').write_text(json.dumps(config))
  sample.run(['charlm-sample', f'--workdir={workdir}', '--prompt=It was', '--length=3'])
  assert capsys.readouterr().out.startswith('It was')


def test_without_a_temporary_folder_tokens_are_kept_in_memory(tmp_path, no_cache, monkeypatch, capsys):
  """Where not even that is there, one line says so."""
  (tmp_path / 'text').write_text(TEXT)
  prepare._spare_root.cache_clear()
  make, refused = tempfile.mkdtemp, {None}

  def mkdtemp(*args, dir=None, **options):
    if dir in refused:
      raise FileNotFoundError(2, 'No usable temporary directory found')
    return make(*args, dir=dir, **options)

  monkeypatch.setattr(tempfile, 'mkdtemp', mkdtemp)
  source = prepare.open_source(DataConfig(corpus=str(tmp_path / 'text')))
  _, files = prepare.tokenize(source, spare=True)
  assert files['train'].path.startswith('/dev/shm/charlm-')
  prepare._spare_root.cache_clear()
  refused.add('/dev/shm')
  with pytest.raises(UserError, match=r'--cache_dir=.*nor can a temporary one'):
    prepare.tokenize(source, spare=True)
  prepare._spare_root.cache_clear()


def test_a_temporary_folder_goes_with_the_process(tmp_path, no_cache):
  (tmp_path / 'text').write_text(TEXT)
  (tmp_path / 'temporary').mkdir()
  code = ('import sys; from data_pipeline import prepare; from flags.data import DataConfig; '
          'print(prepare.tokenize(prepare.open_source(DataConfig(corpus=sys.argv[1])), spare=True)[1]["train"].path)')
  done = subprocess.run([sys.executable, '-c', code, str(tmp_path / 'text')], cwd=ROOT, capture_output=True, text=True,
                        env={'XDG_CACHE_HOME': str(no_cache), 'TMPDIR': str(tmp_path / 'temporary')}, check=True)
  assert done.stdout.startswith(str(tmp_path / 'temporary')) and not [*(tmp_path / 'temporary').iterdir()]
