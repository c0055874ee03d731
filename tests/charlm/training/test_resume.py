"""Which choices a run has: what is resumed, what may change then, and what is refused."""
import functools
import json
import shutil

import pytest

from charlm.commands import evaluate, train
from charlm.training import resume, trainer
from charlm.training.resume import choose_config
from charlm.workdir import checkpoint
from data_pipeline import prepare
from flags.config import Config
from flags.errors import RunError, UserError
from flags.network import ModelConfig
from runs import TEXT, assert_same_run, flags


def test_a_workdir_alone_goes_on(finished, tmp_path, corpus, capsys):
  """Flags that are left out keep their values; a run that is done says so and stays as it is."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  checkpoint.saved(workdir)[0].unlink()
  train.run(['charlm-train', f'--workdir={workdir}'])
  assert_same_run(finished, workdir)
  train.run(['charlm-train', f'--workdir={workdir}'])
  assert 'Trained for 40 steps' in capsys.readouterr().out


def test_a_damaged_newest_checkpoint_falls_back(finished, tmp_path, corpus, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  newest = checkpoint.saved(workdir)[0]
  newest.write_bytes(newest.read_bytes()[:-100])
  train.run(flags(corpus, workdir))
  assert f'warning: {newest}' in capsys.readouterr().err
  assert_same_run(finished, workdir)


@pytest.mark.slow
def test_a_text_may_move_and_a_workdir_lie_beside_it(corpus, tmp_path, capsys):
  """A run that is killed goes on where its text has another name; the other commands then find it there."""
  shutil.copy(corpus, tmp_path / 'old.txt')
  run = functools.partial(flags, tmp_path, tmp_path / 'run', '--layers=1')
  train.run(run())
  checkpoint.saved(tmp_path / 'run')[0].unlink()
  (tmp_path / 'old.txt').rename(tmp_path / 'new.txt')
  train.run(run())  # the folder, without what the run has left there
  for name in 'new.txt', '.':
    place = tmp_path / name
    train.run(['charlm-train', f'--workdir={tmp_path / "run"}', f'--corpus={place}'])
    assert json.loads((tmp_path / 'run' / 'config.json').read_text())['data']['corpus'] == str(place)
  shutil.copytree(tmp_path / 'run', tmp_path / 'run2')
  (tmp_path / 'new.txt').rename(tmp_path / 'newer.log')
  (tmp_path / 'other.txt').write_text('of other times')
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={tmp_path / "run"}', f'--corpus={tmp_path / "newer.log"}',
                '--split=valid', '--dynamic', '--dynamic_length=50'])
  assert json.loads(capsys.readouterr().out)['tokens'] == len(TEXT) // 10 - 1
  for workdir, words in (tmp_path, ['is the --corpus, too']), (tmp_path / 'run', ['another text', '--workdir']):
    with pytest.raises(SystemExit):
      train.run(['charlm-train', f'--corpus={tmp_path}', f'--workdir={workdir}'])
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(word in line for word in words), line


def test_flags_are_checked_beside_what_will_fit(tmp_path):
  def choose(**given):
    return choose_config(tmp_path / 'none', {'max_minutes': 10.0, **given})

  assert choose(dropout_per='sequence', chunk_overlap=120).data.chunk_length == 240
  assert choose(multi_step=150).data.chunk_length == 151
  assert choose(chunk_curriculum='20,40').data.lengths == (20, 40)
  for given in (dict(dropout_per='sequence', dropout=0.0, recurrent_dropout=0.0), dict(multi_step=150, chunk_length=50),
                dict(dropout_per='sequence', steps=5), dict(chunk_overlap=120, epochs=1.0)):
    with pytest.raises(UserError):
      choose(**given)


def test_a_run_from_another_model_need_not_drop(tmp_path):
  (tmp_path / 'config.json').write_text(Config(model=ModelConfig(dropout=0.1, dropout_per='sequence')).to_json())
  choose = functools.partial(choose_config, tmp_path / 'none')
  assert choose({'init_from': str(tmp_path)}).model.dropout_per == 'sequence'
  assert choose({'init_from': str(tmp_path), 'dropout': 0.2}).model.dropout_per == 'sequence'
  assert choose({'init_from': str(tmp_path), 'dropout': 0.0}).model.dropout_per == 'step'


def test_other_flags_are_named(corpus, finished, capsys):
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, finished, '--units=13', '--seed=4'))
  assert exit_.value.code == 2
  error = capsys.readouterr().err
  assert '--units=13 (was 12)' in error and '--seed=4 (was 0)' in error and 'layers' not in error


def test_a_run_that_died_before_its_first_checkpoint_blocks_nothing(corpus, tmp_path, monkeypatch, capsys):
  def die(self):
    raise RunError('died')

  workdir = tmp_path / 'run'
  with monkeypatch.context() as patch, pytest.raises(SystemExit):
    patch.setattr(trainer.Trainer, 'train', die)
    train.run(flags(corpus, workdir, '--tokenizer=char', '--units=13'))
  (workdir / 'samples').mkdir()
  (workdir / 'samples' / 'step-00000099.txt').write_text('of the run that died')
  died = (workdir / 'config.json').read_text()
  few = ['--steps=2', '--eval_every=0', '--sample_every=0']
  train.run(flags(corpus, workdir, *few))
  assert json.loads((workdir / 'config.json').read_text())['model']['units'] == 12
  assert json.loads((workdir / 'tokenizer.json').read_text())['kind'] == 'byte'
  assert not list((workdir / 'samples').iterdir())
  shutil.rmtree(workdir / 'checkpoints')
  (workdir / 'config.json').write_text(died)
  config = choose_config(workdir, {'workdir': str(workdir)})  # alone, it takes up what the run was started with
  assert (config.model.units, config.data.tokenizer) == (13, 'char')


def test_what_is_no_file_may_name_a_workdir(tmp_path, monkeypatch, capsys):
  def stop(*args):
    raise RunError('as far as the text')

  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(prepare, 'tokenize', stop)
  with pytest.raises(SystemExit):
    train.run(['charlm-train', '--workdir=pydoc'])
  assert capsys.readouterr().err.splitlines()[-1] == 'charlm-train: as far as the text'


def test_a_text_that_has_changed_is_refused(finished, tmp_path, capsys):
  corpus, workdir = tmp_path / 'times.txt', tmp_path / 'run'
  corpus.write_text(TEXT)
  train.run(flags(corpus, workdir, '--steps=6', '--eval_every=0', '--sample_every=0'))
  corpus.write_text(TEXT.replace('worst', 'WORST'))
  with pytest.raises(SystemExit) as exit_:
    train.run(['charlm-train', f'--workdir={workdir}'])
  assert exit_.value.code == 2
  assert 'another text' in capsys.readouterr().err


def test_a_worker_has_the_flags_of_the_chief_and_places_of_its_own():
  chief = Config().replace({'units': 64, 'corpus': 'there.txt'})
  assert resume.follow(chief, {'units': 64, 'worker_timeout': 3.0, 'workdir': 'x'}) == chief
  here = resume.follow(chief, {'corpus': 'here.txt', 'cache_dir': 'cache'})
  assert (here.data.corpus, here.data.cache_dir, here.model) == ('here.txt', 'cache', chief.model)
  with pytest.raises(UserError, match=r'other flags than the chief: --units=32 \(was 64\); expected the same command'):
    resume.follow(chief, {'units': 32})
