"""charlm-train through its entry point: a whole run, kills, Ctrl-C, and what bad input gets."""
import json
import os
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

from charlm.commands import evaluate, train
from charlm.training import learner
from charlm.workdir import checkpoint
from charlm.workdir.trained_model import load_model
from flags.config import Config
from flags.data import DataConfig
from flags.errors import RunError
from flags.training import TrainConfig
from runs import ROOT, TEXT, assert_same_run, complaint, flags, last, metrics, start

LSTM = ['--cell=lstm', '--norm=joint', '--tie_embeddings', '--initial_state=noise', '--reset_probability=0.2',
        '--weight_drop=0.1', '--temporal_penalty=1']
CURRICULUM = ['--layers=2', '--chunk_length=100', '--chunk_curriculum=8,16']
PLATEAU = [  # steps so large that the loss rises
    '--schedule=plateau', '--plateau_patience=1', '--optimizer=sgd', '--learning_rate=20', '--warmup_steps=0',
    '--average=validation', '--average_patience=1', '--clip_percentile=50', '--weight_decay=0.001', '--eval_every=4']
EMA = ['--schedule=linear', '--average=ema', '--ema_decay=0.9', '--weight_decay=0.1', '--learning_rate=0.02']
FLAT = ['--flat_epochs=1', '--batch_size=16', '--learning_rate=1e-30', '--dropout=0', '--zoneout=0', '--eval_every=0']


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
  (workdir / 'checkpoints' / '.step-00000012.npz.torn.tmp').write_bytes(b'torn')  # as a kill while saving leaves it
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
    assert np.count_nonzero(arrays['optimizer/norms']) == 40
  if others[0] == EMA[0]:
    assert f'best weights (of step {state["best_step"]}, averaged)' in said
  if others is FLAT:  # 14 steps make a pass
    assert (state['finished'], state['step']) == ('the training loss has not improved in 1 epochs', 28)
    assert 'training/embedding' not in arrays
  else:
    assert max(np.abs(a - b).max() for a, b in zip(*raw_and_used(parts), strict=True)) > 1e-3


def test_other_commands_use_the_average(corpus, tmp_path, capsys):
  train.run(flags(corpus, tmp_path / 'run', *EMA, '--eval_every=20'))
  measured = [line['valid_nats_per_token'] for line in metrics(tmp_path / 'run') if 'valid_nats_per_token' in line]
  capsys.readouterr()
  evaluate.run(['charlm-evaluate', f'--workdir={tmp_path / "run"}', '--weights=last'])
  assert json.loads(capsys.readouterr().out)['nats_per_token'] == pytest.approx(measured[-1], abs=1e-6)
  raw, used = raw_and_used(tmp_path / 'run')
  opened = checkpoint.collect('model', load_model(tmp_path / 'run', 'last').model.variables)
  for name, one, other in zip(sorted(opened), used, raw, strict=True):
    np.testing.assert_array_equal(opened[name], one)
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
  from charlm.generation import session
  arguments = flags(corpus, tmp_path / 'run', '--sample_every=7')
  write = session.sample_writer

  def interrupts(*args, **options):
    def write_sample(model):
      os.kill(os.getpid(), signal.SIGINT)
      return b'x'

    return write_sample

  monkeypatch.setattr(session, 'sample_writer', interrupts)
  with pytest.raises(SystemExit) as exit_:
    train.run(arguments)
  assert exit_.value.code == 130
  assert last(tmp_path / 'run')[1]['step'] == 7
  monkeypatch.setattr(session, 'sample_writer', write)
  train.run(arguments)
  assert_same_run(finished, tmp_path / 'run')


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
    if full_at in os.readlink(f'/proc/self/fd/{file.fileno()}'):
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

  monkeypatch.setattr(learner.Learner, 'step', step)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run'))
  assert exit_.value.code == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert 'step 1 needs more memory' in line and '--batch_size' in line and 'cannot be written' not in line


def test_a_failure_of_a_step_is_not_a_full_disk(corpus, tmp_path, capsys, monkeypatch):
  def step(*args, **options):
    raise tf.errors.InternalError(None, None, 'no such program')

  monkeypatch.setattr(learner.Learner, 'step', step)
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
  command = [sys.executable, '-m', 'charlm.commands.train', *flags(corpus, tmp_path / 'run', '--report_every=1')[1:]]
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
  error = complaint(capsys.readouterr().err)
  assert all(word in error for word in words), error
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
  error = complaint(capsys.readouterr().err)
  assert all(word.format(corpus=corpus) in error for word in words), error
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
