"""A run that starts from another model: its weights, tokens and network, and other text."""
import json
import shutil

import numpy as np
import pytest

from charlm.commands import train
from charlm.workdir import checkpoint
from runs import SMALL, assert_same_run, beside, flags, last


@pytest.fixture(scope='module')
def learned(corpus, tmp_path_factory):
  """A run to start from: characters, its best weights not its last."""
  workdir = tmp_path_factory.mktemp('learned') / 'run'
  train.run(flags(corpus, workdir, '--tokenizer=char'))
  first = checkpoint.saved(workdir)[-1]
  shutil.copy(first, checkpoint.best_path(workdir))
  return workdir


@pytest.fixture
def other_text(tmp_path):
  path = tmp_path / 'other.txt'
  path.write_text('the worst λ of times it was. ' * 120)
  return path


def goes_on(learned, text, workdir, *others):
  """The flags of a run that starts from `learned`, on another text."""
  kept = [f for f in SMALL if not f.startswith(('--units', '--embedding', '--input', '--dropout', '--zoneout'))]
  own = [f'--corpus={text}', f'--workdir={workdir}', f'--init_from={learned}', *kept]
  return ['charlm-train', *beside(others, own)]


@pytest.mark.parametrize('weights', ['best', 'last'])
def test_a_run_starts_from_another_model(learned, other_text, tmp_path, capsys, weights):
  workdir = tmp_path / 'run'
  path = {'best': checkpoint.best_path(learned), 'last': checkpoint.saved(learned)[0]}[weights]
  train.run(goes_on(learned, other_text, workdir, f'--init_weights={weights}', '--steps=1', '--warmup_steps=0',
                    '--learning_rate=1e-9', '--optimizer=sgd', '--units=12'))
  assert ("108 of 3,132 characters of its train split (3.45%) are unknown to this model, first 'λ'"
          in capsys.readouterr().err)
  before, after = checkpoint.read(path)[0], last(workdir)[0]
  for name in before:
    if name.startswith('model/'):
      np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)
  assert after['optimizer/iteration'] == 1
  one, two = (json.loads((w / 'config.json').read_text()) for w in (learned, workdir))
  assert one['model'] == two['model'] and two['train']['init_from'] == str(learned)
  assert (learned / 'tokenizer.json').read_bytes() == (workdir / 'tokenizer.json').read_bytes()
  assert last(workdir)[1]['best_step'] == 1


def test_a_run_from_another_model_may_drop_more(learned, other_text, tmp_path):
  workdir = tmp_path / 'run'
  train.run(goes_on(learned, other_text, workdir, '--steps=1', '--dropout=0.5', '--reset_probability=0.1'))
  one, two = (json.loads((w / 'config.json').read_text())['model'] for w in (learned, workdir))
  assert two == {**one, 'dropout': 0.5, 'reset_probability': 0.1} != one


@pytest.mark.slow
def test_a_run_that_started_from_another_model_ends_in_the_same_bits(learned, other_text, tmp_path):
  """Killed before its first checkpoint, which loses all, and again after one; by then the other model may be gone."""
  gone = tmp_path / 'gone'
  shutil.copytree(learned, gone)
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  train.run(goes_on(gone, other_text, whole))
  for name in ('config.json', 'tokenizer.json', 'checkpoints/best.npz'):  # evaluated, but not saved
    (parts / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(whole / name, parts / name)
  train.run(['charlm-train', f'--workdir={parts}'])
  checkpoint.saved(parts)[0].unlink()
  shutil.rmtree(gone)
  train.run(goes_on(gone, other_text, parts))
  assert_same_run(whole, parts)


@pytest.mark.parametrize('arguments,words', [
    (['--units=13'], ['--init_from=', '--units=13 (was 12)']),
    (['--tokenizer=byte', '--zoneout=0'], ['--tokenizer=byte (was char)', '--zoneout=0.0 (was 0.1)']),
    (['--init_from=/no/such'], ['--init_from=/no/such', 'config.json']),
    (['--init_from=', '--init_weights=last'], ['--init_weights=last', '--init_from']),
])
def test_what_a_run_cannot_start_from(learned, other_text, tmp_path, capsys, arguments, words):
  with pytest.raises(SystemExit) as exit_:
    train.run(goes_on(learned, other_text, tmp_path / 'run', *arguments))
  assert exit_.value.code == 2
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and all(word in errors[0] for word in words), errors
  assert not (tmp_path / 'run').exists()
