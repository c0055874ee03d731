"""A run of charlm-train that was killed, stopped or failed goes on, and ends in the bits of one that was not."""
import os
import signal
import time

import numpy as np
import pytest

from charlm.commands import train
from charlm.workdir import checkpoint
from flags.errors import RunError
from runs import CURRICULUM, EMA, TEXT, assert_same_run, flags, last, metrics, raw_and_used, start

LSTM = ['--cell=lstm', '--norm=joint', '--tie_embeddings', '--initial_state=noise', '--reset_probability=0.2',
        '--weight_drop=0.1', '--temporal_penalty=1']
PLATEAU = [  # steps so large that the loss rises
    '--schedule=plateau', '--plateau_patience=1', '--optimizer=sgd', '--learning_rate=20', '--warmup_steps=0',
    '--average=validation', '--average_patience=1', '--clip_percentile=50', '--weight_decay=0.001', '--eval_every=4']
FLAT = ['--flat_epochs=1', '--batch_size=16', '--learning_rate=1e-30', '--dropout=0', '--zoneout=0', '--eval_every=0']


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


@pytest.mark.parametrize('others', [pytest.param(PLATEAU, id='plateau', marks=pytest.mark.slow),
                                    pytest.param(FLAT, id='flat', marks=pytest.mark.slow),
                                    pytest.param([*EMA, *LSTM], id='ema', marks=pytest.mark.slow)])
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


@pytest.mark.slow
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


DOCUMENTS = ['--document_reset', r'--document_separator=times.\n', '--chunk_overlap=15']


@pytest.mark.slow
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
