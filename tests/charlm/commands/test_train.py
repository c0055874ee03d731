"""charlm-train through its entry point: what a run leaves, what it reports, when it stops; on one device and on two."""
import json
import re
import shutil
import types

import numpy as np
import pytest

from charlm.commands import evaluate, train
from charlm.workdir import checkpoint, variables
from charlm.workdir.trained_model import load_model
from flags.config import Config
from flags.data import DataConfig
from flags.training import TrainConfig
from runs import CURRICULUM, EMA, TEXT, assert_same_run, complaint, flags, last, metrics, raw_and_used, start


def test_a_workdir_holds_everything(finished, capsys):
  assert {p.name for p in finished.iterdir()} == {
      'config.json', 'tokenizer.json', 'checkpoints', 'metrics.jsonl', 'samples', 'tensorboard', 'plot.png'}
  lines = metrics(finished)
  assert [line['step'] for line in lines] == list(range(5, 41, 5))
  assert {'epoch', 'tokens', 'train_nats_per_token', 'gradient_norm', 'learning_rate'} <= lines[0].keys()
  assert ['valid_nats_per_token' in line for line in lines] == [False, True] * 4
  assert lines[-1]['train_nats_per_token'] < lines[0]['train_nats_per_token']
  assert [p.name for p in sorted((finished / 'samples').iterdir())] == ['step-00000020.txt', 'step-00000040.txt']
  assert [p.name for p in checkpoint.saved(finished)] == ['step-00000040.npz', 'step-00000036.npz']


def test_other_commands_use_the_average(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', *EMA, '--eval_every=20'))
  measured = [line['valid_nats_per_token'] for line in metrics(tmp_path / 'run') if 'valid_nats_per_token' in line]
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={tmp_path / "run"}', '--weights=last'])
  assert json.loads(capsys.readouterr().out)['nats_per_token'] == pytest.approx(measured[-1], abs=1e-6)
  raw, used = raw_and_used(tmp_path / 'run')
  opened = variables.collect('model', load_model(tmp_path / 'run', 'last').model.variables)
  for name, one, other in zip(sorted(opened), used, raw, strict=True):
    np.testing.assert_array_equal(opened[name], one)
    assert (one != other).any()


@pytest.mark.slow
def test_two_replicas_measure_and_keep_what_one_does_and_resume(corpus, finished, tmp_path):
  train.run(flags(corpus, tmp_path / 'run', '--strategy=mirrored'))
  shutil.copytree(tmp_path / 'run', tmp_path / 'parts')
  checkpoint.saved(tmp_path / 'parts')[0].unlink()
  train.run(['charlm-train', f'--workdir={tmp_path / "parts"}'])
  assert_same_run(tmp_path / 'run', tmp_path / 'parts')
  for one, two in zip(metrics(finished), metrics(tmp_path / 'run'), strict=True):
    assert one == pytest.approx(two, rel=1e-3)
  (one, first), (two, second) = (checkpoint.read(checkpoint.best_path(w)) for w in (finished, tmp_path / 'run'))
  assert first['best_step'] == second['best_step']
  for name in one:
    np.testing.assert_allclose(one[name], two[name], atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_one_replica_is_one_device(corpus, finished, tmp_path):
  """Outside of these tests a processor is one device, as one GPU is."""
  process = start(corpus, tmp_path / 'run', '--strategy=mirrored')
  _, error = process.communicate()
  assert process.returncode == 0, error
  for one, two in zip(metrics(finished), metrics(tmp_path / 'run'), strict=True):
    assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.slow
def test_a_curriculum_and_char_tokens(corpus, tmp_path):
  train.run(flags(corpus, tmp_path / 'run', *CURRICULUM, '--tokenizer=char', '--steps=10', '--report_every=5'))
  tokens = [line['tokens'] for line in metrics(tmp_path / 'run')]
  assert tokens == [5 * 4 * 8, 5 * 4 * 8 + 5 * 4 * 16]


def test_what_a_model_does_on_its_own_is_reported(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', '--multi_step=5', '--professor_forcing=0.5', '--steps=3', '--eval_every=0',
                  '--sample_every=0'))
  line = metrics(tmp_path / 'run')[-1]
  assert 0 < line['discriminator_accuracy'] < 1 and line['multi_step_nats_per_token'] > 1
  assert 'nats on its own, discriminator right ' in capsys.readouterr().err


def test_patience_stops(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', '--learning_rate=1e-12', '--patience=2', '--eval_every=2', '--dropout=0'))
  assert 'has not improved in 2 evaluations' in capsys.readouterr().out
  step = last(tmp_path / 'run')[1]['step']
  assert step < 20 and [p.name for p in (tmp_path / 'run' / 'samples').iterdir()] == [f'step-{step:08d}.txt']


def test_a_run_that_only_time_limits_fits_the_text(corpus, tmp_path, capsys):
  arguments = ['charlm-train', f'--corpus={corpus}', f'--workdir={tmp_path / "run"}', '--max_minutes=0.05']
  train.run(arguments)
  errors = capsys.readouterr().err
  assert f'notice: to fit {len(TEXT) * 9 // 10:,} tokens, 0.05 minutes and ' in errors and ' --units=32 ' in errors
  kept = (tmp_path / 'run' / 'config.json').read_text()
  assert json.loads(kept)['model']['units'] == 32
  for again in arguments, ['charlm-train', f'--workdir={tmp_path / "run"}']:
    train.run(again)
    assert 'notice: to fit' not in capsys.readouterr().err
  assert (tmp_path / 'run' / 'config.json').read_text() == kept


@pytest.mark.parametrize('tokens, told', [(2_000_000_000, True), (1_000_000, False)])
def test_a_validation_split_too_long_for_the_time_is_told_of(tokens, told, capsys):
  config = Config(data=DataConfig(valid_fraction=0.5), train=TrainConfig(max_minutes=10.0))
  files = {split: types.SimpleNamespace(num_tokens=tokens) for split in ('train', 'valid')}
  train.fitted(config, {'max_minutes': 10.0}, files, 256, 1)
  notice = [line for line in capsys.readouterr().err.splitlines() if 'takes about' in line]
  assert len(notice) == told
  if told:
    share = float(re.search(r'--valid_fraction=(\S+) ', notice[0])[1])
    shorter = files | {'valid': types.SimpleNamespace(num_tokens=int(tokens * share / 0.5))}
    train.fitted(config, {'max_minutes': 10.0}, shorter, 256, 1)
    assert 'takes about' not in capsys.readouterr().err  # what it names will do


def test_unknown_characters_are_told_of(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', '--tokenizer=char', '--steps=2', '--sample_every=0', '--eval_every=0'))
  other = tmp_path / 'other.txt'
  other.write_text('It was λ the ß worst λ of times.')
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={tmp_path / "run"}', f'--corpus={other}'])
  out, err = capsys.readouterr()
  assert complaint(err) == (
    f"warning: --corpus={other}: 3 of 32 characters (9.38%) are unknown to this model, first 'λ'")
  assert (json.loads(out)['tokens'], json.loads(out)['unknown']) == (31, 3)
