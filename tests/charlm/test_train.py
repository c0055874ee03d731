"""charlm-train through its entry point: a whole run, kills, Ctrl-C, and what bad input gets."""
import fcntl
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from charlm import checkpoint, evaluate, loop, train
from charlm.config import Config, DataConfig, EvaluateConfig, ModelConfig, RunError, TrainConfig, UserError
from charlm.workdir import choose_config, open_model, save_config, summary
from runs import assert_same_run, last, metrics

ROOT = pathlib.Path(__file__).parents[2]
TEXT = 'It was the best of times, it was the worst of times. ' * 60
SMALL = ['--layers=1', '--units=12', '--embedding_size=8', '--input_units=8', '--batch_size=4', '--chunk_length=16',
         '--steps=40', '--report_every=5', '--eval_every=10', '--save_every=6', '--sample_every=20', '--dropout=0.1',
         '--zoneout=0.1', '--chunk_overlap=3']
LSTM = ['--cell=lstm', '--norm=joint', '--tie_embeddings', '--initial_state=noise', '--reset_probability=0.2',
        '--weight_drop=0.1', '--temporal_penalty=1']
CURRICULUM = ['--layers=2', '--chunk_length=100', '--chunk_curriculum=8,16']
PLATEAU = [  # steps so large that the loss rises
    '--schedule=plateau', '--plateau_patience=1', '--optimizer=sgd', '--learning_rate=20', '--warmup_steps=0',
    '--average=validation', '--average_patience=1', '--clip_percentile=50', '--weight_decay=0.001', '--eval_every=4']
EMA = ['--schedule=linear', '--average=ema', '--ema_decay=0.9', '--weight_decay=0.1', '--learning_rate=0.02']
FLAT = ['--flat_epochs=1', '--batch_size=16', '--learning_rate=1e-30', '--dropout=0', '--zoneout=0', '--eval_every=0']


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp('corpus') / 'times.txt'
  path.write_text(TEXT)
  return str(path)


def flags(corpus, workdir, *others):
  return ['charlm-train', f'--corpus={corpus}', f'--workdir={workdir}', *SMALL, *others]


def start(corpus, workdir, *others):
  """The same command as a process of its own."""
  command = [sys.executable, '-m', 'charlm.train', *flags(corpus, workdir, *others)[1:]]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope='module')
def finished(corpus, tmp_path_factory):
  """A run that was never stopped."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  train.run(flags(corpus, workdir))
  return workdir


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


def test_killed_at_any_moment_it_ends_in_the_same_bits(corpus, finished, tmp_path):
  workdir, kills = tmp_path / 'run', 0
  for moment in (0.0, 0.01):
    process = start(corpus, workdir)
    before = [p.name for p in checkpoint.saved(workdir)]
    while process.poll() is None and [p.name for p in checkpoint.saved(workdir)] == before:
      time.sleep(0.002)
    time.sleep(moment)
    process.kill()
    process.communicate()
    kills += process.returncode == -signal.SIGKILL
  assert kills == 2
  assert last(workdir)[1]['step'] < 40
  (workdir / 'checkpoints' / '.step-00000012.npz.tmp').write_bytes(b'torn')  # as a kill while saving leaves it
  train.run(flags(corpus, workdir))
  assert_same_run(finished, workdir)


def dies_and_goes_on(arguments, fatal_step, monkeypatch):
  """The run of `arguments`, which dies after its checkpoint of this step."""
  save = checkpoint.save

  def dies(workdir, step, *others):
    save(workdir, step, *others)
    if step == fatal_step:
      raise RunError('died')

  with monkeypatch.context() as patch, pytest.raises(SystemExit):
    patch.setattr(checkpoint, 'save', dies)
    train.run(arguments)
  assert last(arguments[2].partition('=')[2])[1]['step'] == fatal_step
  train.run(arguments)


def raw_and_used(workdir):
  arrays = last(workdir)[0]
  return [[arrays[n] for n in sorted(arrays) if n.startswith(kind)] for kind in ('training/', 'model/')]


@pytest.mark.parametrize('others', [PLATEAU, [*EMA, *LSTM], FLAT], ids=['plateau', 'ema', 'flat'])
def test_what_the_losses_decide_is_resumed(corpus, tmp_path, monkeypatch, capsys, others):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  train.run(flags(corpus, whole, *others))
  said = capsys.readouterr().out
  dies_and_goes_on(flags(corpus, parts, *others), 18, monkeypatch)
  assert_same_run(whole, parts)
  arrays, state = last(parts)
  if others is PLATEAU:
    assert state['rate_scale'] <= 0.5 and 0 < state['average_from'] < 40
    assert np.count_nonzero(arrays['optimizer/002.norms']) == 40
  if others[0] == EMA[0]:
    assert f'best weights (of step {state["best_step"]}, averaged)' in said
  if others is FLAT:  # 14 steps make a pass
    assert (state['finished'], state['step']) == ('the training loss has not improved in 1 epochs', 28)
    assert 'training/000.embedding' not in arrays
  else:
    assert max(np.abs(a - b).max() for a, b in zip(*raw_and_used(parts), strict=True)) > 1e-3


@pytest.mark.parametrize('state,average,words', [
    ({}, 'none', 'the last weights (of step 40), '), ({}, 'ema', 'the last weights (of step 40, averaged), '),
    ({'best_nats': 2.0, 'best_step': 30}, 'none', 'the best weights (of step 30), '),
    ({'best_nats': 2.0, 'best_step': 30}, 'validation', 'the best weights (of step 30), '),
    ({'best_nats': 2.0, 'best_step': 30, 'average_from': 30}, 'validation', 'the best weights (of step 30), '),
    ({'best_nats': 2.0, 'best_step': 30, 'average_from': 20}, 'validation', '(of step 30, averaged since step 20), ')])
def test_the_summary_says_which_weights_are_used(state, average, words):
  start = {'step': 40, 'finished': 'done', 'best_nats': None, 'best_step': 0, 'average_from': None}
  assert words in summary('run', start | state, average)


def test_other_commands_use_the_average(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', *EMA, '--eval_every=20'))
  measured = [line['valid_nats_per_token'] for line in metrics(tmp_path / 'run') if 'valid_nats_per_token' in line]
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={tmp_path / "run"}', '--weights=last'])
  assert json.loads(capsys.readouterr().out)['nats_per_token'] == pytest.approx(measured[-1], abs=1e-6)
  raw, used = raw_and_used(tmp_path / 'run')
  opened = open_model(tmp_path / 'run', 'last').model.variables
  for variable, one, other in zip(opened, used, raw, strict=True):
    np.testing.assert_array_equal(variable.numpy(), one)
    assert (one != other).any()


def test_killed_before_a_change_of_chunk_length_it_ends_in_the_same_bits(corpus, tmp_path):
  """The chunks grow at step 20, after the kill, and again in the run that goes on from step 18."""
  whole, parts, recipe = tmp_path / 'whole', tmp_path / 'parts', [*CURRICULUM, *PLATEAU]
  train.run(flags(corpus, whole, *recipe))
  process = start(corpus, parts, *recipe)
  while process.poll() is None and not (parts / 'checkpoints' / 'step-00000018.npz').exists():
    time.sleep(0.002)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL and last(parts)[1]['step'] < 40
  train.run(flags(corpus, parts, *recipe))
  assert_same_run(whole, parts)


def test_ctrl_c_saves_and_says_how_to_go_on(corpus, finished, tmp_path):
  workdir = tmp_path / 'run'
  process = start(corpus, workdir, '--steps=100000', '--eval_every=0', '--sample_every=0', '--save_every=0')
  while process.poll() is None and not (workdir.exists() and (workdir / 'metrics.jsonl').exists()
                                        and (workdir / 'metrics.jsonl').read_text()):
    time.sleep(0.01)
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate()
  assert process.returncode == 130
  assert 'The same command goes on' in errors and 'Traceback' not in errors
  step = last(workdir)[1]['step']
  assert f'Stopped after step {step}' in errors


def test_a_signal_at_any_moment_loses_nothing(corpus, finished, tmp_path, monkeypatch):
  """Here while a sample is written, at a step that is due for nothing else."""
  from charlm import sampling
  arguments = flags(corpus, tmp_path / 'run', '--sample_every=7')
  write = sampling.sample_writer

  def interrupts(*args, **options):
    def write_sample(model):
      os.kill(os.getpid(), signal.SIGINT)
      return b'x'

    return write_sample

  monkeypatch.setattr(sampling, 'sample_writer', interrupts)
  with pytest.raises(SystemExit) as exit_:
    train.run(arguments)
  assert exit_.value.code == 130
  assert last(tmp_path / 'run')[1]['step'] == 7
  monkeypatch.setattr(sampling, 'sample_writer', write)
  train.run(arguments)
  assert_same_run(finished, tmp_path / 'run')


def test_one_run_at_a_time(corpus, finished, capsys):
  folder = os.open(finished, os.O_RDONLY)
  fcntl.flock(folder, fcntl.LOCK_EX)
  with pytest.raises(SystemExit) as exit_:
    train.run(['charlm-train', f'--workdir={finished}'])
  os.close(folder)
  assert exit_.value.code == 2
  assert 'another charlm-train' in capsys.readouterr().err


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


def test_one_replica_is_one_device(corpus, finished, tmp_path):
  """Outside of these tests a processor is one device, as one GPU is."""
  process = start(corpus, tmp_path / 'run', '--strategy=mirrored')
  _, error = process.communicate()
  assert process.returncode == 0, error
  for one, two in zip(metrics(finished), metrics(tmp_path / 'run'), strict=True):
    assert one == pytest.approx(two, rel=1e-3)


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


def test_a_loss_that_is_not_finite_stops_the_run(corpus, tmp_path, capsys):
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', '--optimizer=sgd', '--learning_rate=1e38', '--clip_norm=0',
                    '--warmup_steps=20', '--save_every=1'))
  assert exit_.value.code == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert all(word in line for word in ('step', 'gradient norm', 'last good checkpoint', '--learning_rate'))
  for path in checkpoint.saved(tmp_path / 'run'):
    assert all(np.isfinite(a).all() for a in checkpoint.read(path)[0].values())


@pytest.mark.parametrize('full_at', ['step-00000018.npz', 'best.npz'])
def test_a_full_disk_keeps_the_last_good_checkpoint(corpus, tmp_path, capsys, monkeypatch, full_at):
  folder, savez, evaluate_every = tmp_path / 'run' / 'checkpoints', np.savez, {'best.npz': 20}.get(full_at, 0)

  def fills_up(file, **arrays):
    if full_at in file.name:
      file.write(b'half of it')
      raise OSError(28, 'No space left on device')
    savez(file, **arrays)

  monkeypatch.setattr(np, 'savez', fills_up)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', f'--eval_every={evaluate_every}', '--sample_every=0'))
  assert exit_.value.code == 1
  line, kept = capsys.readouterr().err.splitlines()[-1], ['step-00000006.npz', 'step-00000012.npz']
  if evaluate_every:
    kept = ['step-00000012.npz', 'step-00000018.npz']
  for words in (f'{folder / full_at}: the checkpoint could not', 'No space left', f'good one is {folder / kept[-1]}.'):
    assert words in line
  assert sorted(p.name for p in folder.iterdir()) == kept


def test_too_little_memory_is_not_a_full_disk(corpus, tmp_path, capsys, monkeypatch):
  def step(*args, **options):
    raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor\nand more')

  monkeypatch.setattr(loop.Learner, 'step', step)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run'))
  assert exit_.value.code == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert 'step 1 needs more memory' in line and '--batch_size' in line and 'cannot be written' not in line


def test_a_failure_of_a_step_is_not_a_full_disk(corpus, tmp_path, capsys, monkeypatch):
  def step(*args, **options):
    raise tf.errors.InternalError(None, None, 'no such program')

  monkeypatch.setattr(loop.Learner, 'step', step)
  with pytest.raises(SystemExit):
    train.run(flags(corpus, tmp_path / 'run'))
  assert 'TensorFlow failed (InternalError: no such program)' in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_are_not_finite_are_never_kept(corpus, tmp_path, capsys):
  with pytest.raises(SystemExit) as exit_:  # the only update ruins them, after the only loss
    train.run(flags(corpus, tmp_path / 'run', '--steps=1', '--optimizer=sgd', '--learning_rate=3e38', '--clip_norm=0',
                    '--warmup_steps=0'))
  assert exit_.value.code == 1
  assert 'not made yet' in capsys.readouterr().err.splitlines()[-1]
  assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_a_full_disk_under_the_record_is_one_line(corpus, finished, tmp_path):
  command = [sys.executable, '-m', 'charlm.train', *flags(corpus, tmp_path / 'run', '--report_every=1')[1:]]
  run = subprocess.run(['bash', '-c', 'trap "" XFSZ; ulimit -f 4; exec "$@"', 'bash', *command], cwd=ROOT, text=True,
                       capture_output=True)
  assert run.returncode == 1
  assert 'Traceback' not in run.stderr and 'cannot be' in run.stderr.splitlines()[-1], run.stderr


@pytest.mark.parametrize('arguments,words', [
    (['--learning_rate=inf'], ['--learning_rate=inf', 'finite']),
    (['--corpus=/no/such/file'], ['--corpus=', '/no/such/file']),
    (['--units=0'], ['--units=0', 'at least 2']),
    (['--unitz=3'], ['--unitz', '--units']),
    (['--optimizer=adom'], ['--optimizer=adom', 'adam']),
    (['--batch_size=5000'], ['--batch_size=5000', 'would fit', '--batch_size=']),
    (['--batch_size=3', '--strategy=mirrored'], ['--batch_size=3', '2']),
    (['--valid_fraction=0.6', '--test_fraction=0.4'], ['--valid_fraction=0.6', '--test_fraction=0.4']),
    (['--patience=2', '--valid_fraction=0'], ['--patience=2', '--valid_fraction=0']),
    (['--units=1000000'], ['--units=1000000', 'GiB']),
    (['--embedding_size=1000000000', '--input_units=1000'], ['--embedding_size=1000000000', 'GiB']),
    (['--valid_fraction=0.0001'], ['--valid_fraction=0.0001', 'at least 2', 'found 0']),
    (['--test_fraction=0.0005'], ['--test_fraction=0.0005', 'at least 2', 'found 1']),
    (['--document_reset'], ['--document_reset', 'no second document', '--document_separator']),
    (['--document_reset', '--document_separator=times', '--recurrence=native'], ['--recurrence=native', 'xla']),
    (['--document_separator=times'], ['--document_separator=times', '--document_reset=False']),
    (['--chunk_curriculum=8,16'], ['--chunk_length=16', '--chunk_curriculum=8,16', 'its default, 100']),
])
def test_bad_input_gets_one_line_and_leaves_nothing(corpus, tmp_path, capsys, arguments, words):
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', *arguments))
  assert exit_.value.code == 2
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and all(word in errors[0] for word in words), errors
  assert not (tmp_path / 'run').exists()


def invalid(folder):
  (folder / 'a').write_bytes(b'a' * 300)
  (folder / 'b').write_bytes(b'b' * 100 + b'\xff' + b'b' * 2000)


@pytest.mark.parametrize('fill,arguments,words', [
    (invalid, ['--tokenizer=char'], ['{corpus}/b:', '0xff', 'offset 100', '--on_invalid=replace']),
    (lambda folder: None, [], ['--corpus={corpus}:', 'no text in it']),
    (lambda folder: (folder / 'empty').touch(), ['--corpus={corpus}/empty'], ['--corpus={corpus}/empty:', '0 bytes']),
    (lambda folder: None, ['--corpus=tfds:no_such_set', '--data_dir={corpus}'], ['tfds:no_such_set', 'the name of']),
], ids=['invalid', 'empty folder', 'empty file', 'unknown data set'])
def test_a_corpus_that_will_not_do_gets_one_line_and_leaves_nothing(tmp_path, capsys, fill, arguments, words):
  corpus = tmp_path / 'corpus'
  corpus.mkdir()
  fill(corpus)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', *(a.format(corpus=corpus) for a in arguments)))
  assert exit_.value.code == 2
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and all(word.format(corpus=corpus) in errors[0] for word in words), errors
  assert not (tmp_path / 'run').exists()


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
  train.fitted(config, {'max_minutes': 10.0}, files, 256)
  notice = [line for line in capsys.readouterr().err.splitlines() if 'takes about' in line]
  assert len(notice) == told
  if told:
    share = float(re.search(r'--valid_fraction=(\S+) ', notice[0])[1])
    shorter = files | {'valid': types.SimpleNamespace(num_tokens=int(tokens * share / 0.5))}
    train.fitted(config, {'max_minutes': 10.0}, shorter, 256)
    assert 'takes about' not in capsys.readouterr().err  # what it names will do


@pytest.mark.parametrize('evaluation, speed, expected', [
  (None, None, 60),  # nothing is known yet
  (None, 50.0, 60 - 20),  # 3,000 tokens at 150 per second
  (None, 1.0, 30), (7, 50.0, 60 - 7), (50, 50.0, 30)])
def test_time_is_left_for_the_last_evaluation(evaluation, speed, expected):
  trainer = types.SimpleNamespace(
    config=Config(train=TrainConfig(max_minutes=1.0)), evaluation_seconds=evaluation, speed=speed,
    valid_file=types.SimpleNamespace(num_tokens=3_000))
  assert loop.Trainer.training_seconds(trainer) == expected


def test_unknown_characters_are_told_of(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', '--tokenizer=char', '--steps=2', '--sample_every=0', '--eval_every=0'))
  other = tmp_path / 'other.txt'
  other.write_text('It was λ the ß worst λ of times.')
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={tmp_path / "run"}', f'--corpus={other}'])
  out, err = capsys.readouterr()
  assert err == f"warning: --corpus={other}: 3 of 32 characters (9.38%) are unknown to this model, first 'λ'\n"
  assert (json.loads(out)['tokens'], json.loads(out)['unknown']) == (31, 3)


@pytest.fixture(scope='module')
def learned(corpus, tmp_path_factory):
  """A run to start from: characters, its best weights not its last."""
  workdir = tmp_path_factory.mktemp('learned') / 'run'
  train.run(flags(corpus, workdir, '--tokenizer=char'))
  first = checkpoint.saved(workdir)[-1]
  shutil.copy(first, checkpoint.best_path(workdir))
  return workdir


def goes_on(learned, text, workdir, *others):
  """The flags of a run that starts from `learned`, on another text."""
  kept = [f for f in SMALL if not f.startswith(('--units', '--embedding', '--input', '--dropout', '--zoneout'))]
  return ['charlm-train', f'--corpus={text}', f'--workdir={workdir}', f'--init_from={learned}', *kept, *others]


@pytest.fixture
def other_text(tmp_path):
  path = tmp_path / 'other.txt'
  path.write_text('the worst λ of times it was. ' * 120)
  return path


@pytest.mark.parametrize('weights', ['best', 'last'])
def test_a_run_starts_from_another_model(learned, other_text, tmp_path, capsys, weights):
  workdir = tmp_path / 'run'
  path = {'best': checkpoint.best_path(learned), 'last': checkpoint.saved(learned)[0]}[weights]
  train.run(goes_on(learned, other_text, workdir, f'--init_weights={weights}', '--steps=1', '--warmup_steps=0',
                    '--learning_rate=1e-9', '--optimizer=sgd', '--units=12'))
  assert '120 of 3,480 characters (3.45%) are unknown to this model, first \'λ\'' in capsys.readouterr().err
  before, after = checkpoint.read(path)[0], last(workdir)[0]
  for name in before:
    if name.startswith('model/'):
      np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)
  assert after['optimizer/000.optimizer.iteration'] == 1
  one, two = (json.loads((w / 'config.json').read_text()) for w in (learned, workdir))
  assert one['model'] == two['model'] and two['train']['init_from'] == str(learned)
  assert (learned / 'tokenizer.json').read_bytes() == (workdir / 'tokenizer.json').read_bytes()
  assert last(workdir)[1]['best_step'] == 1


def test_a_run_from_another_model_may_drop_more(learned, other_text, tmp_path):
  workdir = tmp_path / 'run'
  train.run(goes_on(learned, other_text, workdir, '--steps=1', '--dropout=0.5', '--reset_probability=0.1'))
  one, two = (json.loads((w / 'config.json').read_text())['model'] for w in (learned, workdir))
  assert two == {**one, 'dropout': 0.5, 'reset_probability': 0.1} != one


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


DOCUMENTS = ['--document_reset', r'--document_separator=times.\n', '--chunk_overlap=15']


def test_documents_and_the_longest_overlap_resume_to_the_same_bits(tmp_path):
  corpus = tmp_path / 'corpus'
  corpus.mkdir()
  (corpus / 'a').write_text(TEXT.replace('. ', '.\n'))
  (corpus / 'b').write_text(TEXT[:500])
  whole, parts, plain = (tmp_path / name for name in ('whole', 'parts', 'plain'))
  train.run(flags(corpus, whole, *DOCUMENTS))
  train.run(flags(corpus, parts, *DOCUMENTS))
  checkpoint.saved(parts)[0].unlink()
  train.run(['charlm-train', f'--workdir={parts}'])
  assert_same_run(whole, parts)
  train.run(flags(corpus, plain, '--chunk_overlap=15', '--steps=6'))
  assert metrics(plain)[0] != metrics(whole)[0]


@pytest.mark.parametrize('name,value', [('patience', 2), ('schedule', 'plateau'), ('average', 'validation')])
def test_a_data_set_that_has_nothing_to_wait_for(tmp_path, name, value):
  config = Config(data=DataConfig(corpus='tfds:x', valid_fraction=0.0), train=TrainConfig(**{name: value}))
  with pytest.raises(UserError, match=rf'--{name}={value}: --corpus=tfds:x has no validation split.*--valid_fraction'):
    loop.Trainer(config, tmp_path / 'run', None, None, {}, started=0.0)


def test_another_corpus_leaves_the_data_set_behind():
  trained = DataConfig(corpus='tfds:x', data_dir='/data', text_feature='title', valid_fraction=0.2)
  assert evaluate.choose_data(EvaluateConfig(corpus='pydoc'), trained) == (
    DataConfig(corpus='pydoc', valid_fraction=0.0), 'all')
  assert evaluate.choose_data(EvaluateConfig(), trained) == (trained, 'valid')
  other, split = evaluate.choose_data(EvaluateConfig(corpus='tfds:y'), trained)
  assert (other.data_dir, split) == ('/data', 'valid')


def test_the_text_trained_on_is_known_by_any_name(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  trained = DataConfig(corpus='/home/me/book.txt')
  for name in '~/book.txt', '/home/me/./book.txt', os.path.relpath('/home/me/book.txt'):
    assert evaluate.choose_data(EvaluateConfig(corpus=name), trained) == (trained, 'valid')
  assert evaluate.choose_data(EvaluateConfig(corpus='~/book.txt', split='test'), trained) == (trained, 'test')
  assert evaluate.choose_data(EvaluateConfig(corpus='~/book'), trained)[1] == 'all'


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


def test_what_waits_as_long_as_the_run_does_is_refused(corpus, tmp_path, capsys):
  small = [f for f in flags(corpus, tmp_path / 'run') if not f.startswith('--steps')]
  with pytest.raises(SystemExit):
    train.run([*small, '--epochs=1', '--patience=5'])
  line = capsys.readouterr().err.splitlines()[-1]
  assert all(word in line for word in ('--patience=5', '1 epochs')), line
  short = [f for f in small if not f.startswith('--chunk_length')]
  for others, words in ((['--epochs=1', '--chunk_curriculum=8,16', '--patience=50'], ['--patience=50', '1 epochs']),
                        (['--steps=5', '--flat_epochs=3'], ['--flat_epochs=3', '--steps=5'])):
    with pytest.raises(SystemExit):
      train.run([*short, *others])
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
    patch.setattr(loop.Trainer, 'run', die)
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


def test_best_weights_of_a_run_that_was_killed_before_its_first_checkpoint_are_kept(corpus, tmp_path, monkeypatch,
                                                                                   capsys):
  def die(self):
    raise RunError('died')

  folder = tmp_path / 'run' / 'checkpoints'
  with monkeypatch.context() as patch, pytest.raises(SystemExit):
    patch.setattr(loop.Trainer, '_save', die)
    train.run(flags(corpus, tmp_path / 'run', '--steps=4', '--eval_every=2', '--save_every=0'))
  best, = folder.iterdir()
  weights, state = checkpoint.read(best)
  train.run(['charlm-train', f'--workdir={tmp_path / "run"}'])
  aside = folder / f'best-of-step-{state["step"]}.npz'
  assert str(aside) in capsys.readouterr().err
  for name, array in checkpoint.read(aside)[0].items():
    np.testing.assert_array_equal(array, weights[name])
  assert {p.name for p in folder.iterdir()} == {aside.name, 'best.npz', 'step-00000004.npz'}


def test_what_is_no_file_may_name_a_workdir(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  train.run(['charlm-train', '--workdir=pydoc', '--steps=1', '--units=4', '--layers=1', '--input_layers=0',
             '--embedding_size=2', '--sample_every=0', '--valid_fraction=0.001'])
  assert pathlib.Path('pydoc', 'config.json').exists()
  (tmp_path / 'stdlib').write_text('a file of that name')
  trained = DataConfig(corpus='stdlib')
  assert evaluate.choose_data(EvaluateConfig(corpus='./stdlib'), trained)[1] == 'all'
  assert evaluate.choose_data(EvaluateConfig(corpus='stdlib'), trained) == (trained, 'valid')


def test_a_run_that_began_meanwhile_is_not_written_over(finished):
  before = (finished / 'config.json').read_text()
  with pytest.raises(UserError, match='meanwhile'):
    save_config(finished, Config(), None)
  assert (finished / 'config.json').read_text() == before


def test_a_text_that_has_changed_is_refused(finished, tmp_path, capsys):
  corpus, workdir = tmp_path / 'times.txt', tmp_path / 'run'
  corpus.write_text(TEXT)
  train.run(flags(corpus, workdir, '--steps=6', '--eval_every=0', '--sample_every=0'))
  corpus.write_text(TEXT.replace('worst', 'WORST'))
  with pytest.raises(SystemExit) as exit_:
    train.run(['charlm-train', f'--workdir={workdir}'])
  assert exit_.value.code == 2
  assert 'another text' in capsys.readouterr().err


def test_evaluate(finished, corpus, tmp_path, capsys):
  def report(*arguments):
    capsys.readouterr()
    evaluate.run(['charlm-evaluate', f'--workdir={finished}', *arguments])
    return json.loads(capsys.readouterr().out)

  valid = report()
  best = min(line['valid_nats_per_token'] for line in metrics(finished) if 'valid_nats_per_token' in line)
  assert valid['nats_per_token'] == pytest.approx(best, abs=1e-5)
  assert valid['bits_per_byte'] == pytest.approx(best / np.log(2), abs=1e-4)
  assert valid['bytes'] == valid['characters'] == valid['tokens'] == len(TEXT) // 10 - 1
  one, many = (report('--split=train', f'--batch_size={n}', f'--chunk_length={t}') for n, t in ((1, 50), (32, 7)))
  assert one['nats_per_token'] == pytest.approx(many['nats_per_token'], abs=1e-3)
  assert one['tokens'] == many['tokens']
  other = tmp_path / 'naïve.txt'
  other.write_text('naïve café ' * 40)
  whole, thin = report(f'--corpus={other}'), report(f'--corpus={other}', '--batch_size=1000000000')
  assert thin['nats_per_token'] == pytest.approx(whole['nats_per_token'], abs=1e-2)
  assert whole['split'] == 'all'
  assert (whole['bytes'], whole['characters']) == (13 * 40 - 1, 11 * 40 - 1)
  assert report('--weights=last')['step'] == 40
  free = report('--free_running=3', '--seed=2')
  assert free['nats_per_token'] == valid['nats_per_token']
  assert (free['free_running_stretches'], free['seed']) == ((len(TEXT) // 10 - 1) // 3, 2)
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
  dropped = report('--mc_dropout=3', '--seed=5')
  assert (dropped['mc_dropout'], dropped['seed']) == (3, 5) and 'mc_dropout' not in before
  assert dropped['nats_per_token'] == pytest.approx(before['nats_per_token'], rel=0.1)
  assert dropped['nats_per_token'] != before['nats_per_token']
  assert {p: p.read_bytes() for p in (finished / 'checkpoints').iterdir()} == kept


@pytest.mark.parametrize('arguments,change,words', [
    (['--dynamic', '--mc_dropout=2'], None, ['--dynamic with --mc_dropout=2']),
    (['--free_running=5000'], None, ['--free_running=5000', 'fewer']),
    (['--mc_dropout=2'], 'no dropout', ['--mc_dropout=2', 'trained without dropout']),
    (['--dynamic'], 'other text', ['--dynamic', 'has changed since']),
    (['--dynamic', '--corpus=pydoc'], 'no text', ['--dynamic', 'trained on', 'no such file']),
    (['--dynamic_decay=0.5'], None, ['--dynamic_decay=0.5', '--dynamic=False']),
    (['--dynamic', '--chunk_length=5'], None, ['--chunk_length=5', '--dynamic_length']),
    (['--seed=3'], None, ['--seed=3', '--mc_dropout=0']),
])
def test_what_evaluate_refuses(finished, corpus, tmp_path, capsys, arguments, change, words):
  workdir, text = tmp_path / 'run', tmp_path / 'times.txt'
  shutil.copytree(finished, workdir)
  config = json.loads((workdir / 'config.json').read_text())
  config['data']['corpus'] = str(text)
  if change == 'no dropout':
    config['model'].update(dropout=0.0, zoneout=0.0)
  (workdir / 'config.json').write_text(json.dumps(config))
  if change != 'no text':
    text.write_text(TEXT + change if change == 'other text' else TEXT)
  with pytest.raises(SystemExit) as exit_:
    evaluate.run(['charlm-evaluate', f'--workdir={workdir}', *arguments])
  assert exit_.value.code == 2
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and all(word in errors[0] for word in words), errors


@pytest.mark.parametrize('prepare,words', [
    (lambda folder: None, ['config.json']),
    (lambda folder: (folder / 'config.json').write_text(Config(model=ModelConfig(units=8)).to_json().replace(
      '"units": 8', '"units": 8.5')), ['config.json', '--units=8.5', 'an integer']),
    (lambda folder: (folder / 'config.json').write_text(json.dumps({
      name: group | ({'units': 13} if name == 'model' else {})
      for name, group in json.loads((folder / 'config.json').read_text()).items()})),
     ['config.json', 'first model/', 'of shape', 'expected of shape']),
    (lambda folder: shutil.rmtree(folder / 'checkpoints'), ['no checkpoint']),
    (lambda folder: (folder / 'config.json').write_text('{'), ['config.json', 'not a charlm configuration']),
    (lambda folder: (folder / 'tokenizer.json').unlink(), ['tokenizer']),
    (lambda folder: other_tokenizer(folder), ['tokenizer', 'not the one']),
])
def test_a_workdir_that_will_not_do(finished, tmp_path, capsys, prepare, words):
  workdir = tmp_path / 'run'
  if 'config.json' not in words or len(words) > 1:
    shutil.copytree(finished, workdir)
  prepare(workdir)
  with pytest.raises(SystemExit) as exit_:
    evaluate.run(['charlm-evaluate', f'--workdir={workdir}'])
  assert exit_.value.code == 2
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and all(word in errors[0] for word in words), errors


def other_tokenizer(folder):
  from data_pipeline import tokenizers
  tokenizers.CharTokenizer('abc').save(folder)


def test_all_checkpoints_damaged(finished, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  for path in checkpoint.saved(workdir):
    os.truncate(path, 10)
  with pytest.raises(RunError, match='none of its 2'):
    checkpoint.newest(workdir, lambda text: None)
