"""charlm-evaluate through its entry point: figures, what it adds to them, and what it refuses."""
import json
import shutil

import numpy as np
import pytest

from charlm.commands import evaluate
from runs import TEXT, complaint, metrics


def test_evaluate(finished, corpus, tmp_path, capsys):
  def report(*arguments):
    capsys.readouterr()
    evaluate.run(['charlm-evaluate', f'--workdir={finished}', *arguments])
    return json.loads(capsys.readouterr().out)

  valid = report()
  best = min(line['valid_nats_per_token'] for line in metrics(finished) if 'valid_nats_per_token' in line)
  assert valid['nats_per_token'] == pytest.approx(best, abs=1e-5)
  assert (valid['split'], valid['training_corpus']) == ('valid', True)
  assert valid['bits_per_byte'] == pytest.approx(best / np.log(2), abs=1e-4)
  assert valid['bytes'] == valid['characters'] == valid['tokens'] == len(TEXT) // 10 - 1
  one, many = (report('--split=train', f'--batch_size={n}', f'--chunk_length={t}') for n, t in ((1, 50), (32, 7)))
  assert one['nats_per_token'] == pytest.approx(many['nats_per_token'], abs=1e-4)
  assert one['tokens'] == many['tokens']
  other = tmp_path / 'naïve.txt'
  other.write_text('naïve café ' * 40)
  whole, thin = report(f'--corpus={other}'), report(f'--corpus={other}', '--batch_size=1000000')
  assert thin['nats_per_token'] == pytest.approx(whole['nats_per_token'], abs=1e-4)
  assert (whole['split'], whole['training_corpus']) == ('all', False)
  assert (whole['bytes'], whole['characters']) == (13 * 40 - 1, 11 * 40 - 1)
  assert report('--weights=last')['step'] == 40
  free = report('--free_running=3', '--seed=2')
  assert free['nats_per_token'] == valid['nats_per_token']
  assert (free['free_running_rollouts'], free['seed']) == ((len(TEXT) // 10 - 1) // 3, 2)
  assert len(free['free_running_nats_per_token']) == 3
  assert free['free_running_nats_per_token'][0] == pytest.approx(valid['nats_per_token'], rel=0.1)


def test_evaluate_while_learning_and_with_dropout(finished, corpus, tmp_path, capsys):
  def report(*arguments):
    capsys.readouterr()
    evaluate.run(['charlm-evaluate', f'--workdir={finished}', *arguments])
    return json.loads(capsys.readouterr().out)

  before, kept = report(), {p: p.read_bytes() for p in (finished / 'checkpoints').iterdir()}
  dynamic = report('--dynamic', '--dynamic_learning_rate=0.003', '--dynamic_length=5')
  assert dynamic['dynamic'] == {'learning_rate': 0.003, 'decay': 0.02, 'length': 5, 'rows': 1,
                                'statistics_tokens': 18 * 32 * 5}  # one pass
  assert dynamic['tokens'] == before['tokens'] and dynamic['nats_per_token'] < 0.9 * before['nats_per_token']
  few = report('--dynamic', '--dynamic_length=100', '--batch_size=8', '--dynamic_statistics=1')
  assert few['dynamic']['rows'] == 4  # of a segment each at least
  longest = report('--dynamic', '--dynamic_length=1000000')  # that of the text
  assert longest['dynamic']['length'] == longest['tokens'] == before['tokens']
  assert report('--chunk_length=1000000')['nats_per_token'] == pytest.approx(before['nats_per_token'])
  dropped = report('--mc_dropout=3', '--seed=5')
  assert (dropped['mc_dropout'], dropped['seed']) == (3, 5) and 'mc_dropout' not in before
  assert dropped['nats_per_token'] == pytest.approx(before['nats_per_token'], rel=0.1)
  assert dropped['nats_per_token'] != before['nats_per_token']
  assert {p: p.read_bytes() for p in (finished / 'checkpoints').iterdir()} == kept


@pytest.mark.parametrize('arguments,change,words', [
    (['--dynamic', '--mc_dropout=2'], None, ['--dynamic with --mc_dropout=2']),
    (['--free_running=5000'], None, ['--free_running=5000', 'fewer']),
    (['--mc_dropout=2'], 'no dropout', ['--mc_dropout=2', 'trained without dropout']),
    (['--dynamic'], 'other text', ['--workdir', 'trained on', 'is another text', '--corpus']),
    (['--dynamic', '--corpus=pydoc'], 'no text', ['--dynamic', 'trained on', 'is not there', 'pydoc is another text']),
    (['--data_dir=x'], None, ['--data_dir=x', 'no effect']),
    (['--dynamic_decay=0.5'], None, ['--dynamic_decay=0.5', '--dynamic=False']),
    (['--dynamic', '--chunk_length=5'], None, ['--chunk_length=5', '--dynamic_length']),
    (['--seed=3'], None, ['--seed=3', '--mc_dropout=0']),
])
def test_what_evaluate_refuses(finished, corpus, tmp_path, capsys, arguments, change, words):
  workdir, text = tmp_path / 'run', tmp_path / 'times.txt'
  shutil.copytree(finished, workdir)
  config = json.loads((workdir / 'config.json').read_text())
  config['data']['corpus'], config['places'] = str(text), {}
  if change == 'no dropout':
    config['model'].update(dropout=0.0, zoneout=0.0)
  (workdir / 'config.json').write_text(json.dumps(config))
  if change != 'no text':
    text.write_text(TEXT + change if change == 'other text' else TEXT)
  with pytest.raises(SystemExit) as exit_:
    evaluate.run(['charlm-evaluate', f'--workdir={workdir}', *arguments])
  assert exit_.value.code == 2
  error = complaint(capsys.readouterr().err)
  assert all(word in error for word in words), error
