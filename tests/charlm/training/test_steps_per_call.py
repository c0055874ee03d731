"""Several steps in one call: as one by one, and never past a point where something is due."""
import os

import numpy as np
import pytest

import runs
from charlm.commands import train
from charlm.network.backend import kernels
from charlm.training.learner import Learner, StepDecisions
from charlm.workdir import checkpoint
from data_pipeline import streams
from data_pipeline.rows import training_rows
from learners import RECIPES, STARTS, TEXT
from learners import small as make

# Most tests compile without optimization, and then a sum may be rounded otherwise inside a loop.
EXACT = 'optimization_level=0' not in os.environ['XLA_FLAGS']


def trained(one, calls, *, overlap=0, starts=None):
  """-> all that a step changes, the carry, and the metrics, after calls of so many steps each."""
  def stream(context):
    return streams.training_stream(TEXT, training_rows(len(TEXT), one.batch_size), length=20, stride=20 - overlap,
                                   context=context, starts=starts)

  batches, carry, history, step = iter(one.distribution.batches(stream)), one.initial_carry(), [], 0
  for count in calls:
    told = [StepDecisions(k / 8, 0.8, 1 / (1 + k)) for k in range(step, step + count)]
    if count == 1:
      metrics, carry = one.step(next(batches), carry, told[0])
      history.append({name: float(value) for name, value in metrics.items()})
    else:
      metrics, carry = one.steps([next(batches) for _ in range(count)], carry, told)
      history += [{name: float(value[k]) for name, value in metrics.items()} for k in range(count)]
    step += count
  held = [*one.model.variables, *one.variables, *one.evaluated.variables]
  return [v.numpy() for v in held], one.join_carry(carry), history


def assert_same(one, other):
  """Weights, carry and metrics are the same; the same bits where XLA has the options that users have."""
  (a, carry_a, metrics), (b, carry_b, others) = one, other
  for x, y in zip([*a, *carry_a], [*b, *carry_b], strict=True):
    np.testing.assert_allclose(x, y, 0 if EXACT else 1e-4, 0 if EXACT else 1e-6)
  assert metrics == (others if EXACT else [pytest.approx(line, rel=1e-5) for line in others])


@pytest.mark.parametrize('recurrence', [pytest.param('xla', marks=pytest.mark.slow), pytest.param(
    'native', marks=pytest.mark.skipif(bool(kernels.register()[1]), reason='no native kernels'))])
@pytest.mark.parametrize('recipe', [
    dict(dropout=0.2, zoneout=0.1, train=dict(average='ema')),
    *(pytest.param(recipe, marks=pytest.mark.slow)
      for recipe in (dict(starts=STARTS, overlap=3), *RECIPES))], ids=['noise', 'documents', 'gru', 'lstm'])
def test_several_steps_in_one_call_are_those_one_by_one(recipe, recurrence):
  if recurrence == 'native' and recipe.get('cell') == 'lstm':
    pytest.skip('native kernels compute a GRU')
  options = {name: value for name, value in recipe.items() if name != 'starts'}
  assert_same(*(trained(make(recurrence=recurrence, **options), calls, overlap=options.get('overlap', 0),
                        starts=recipe.get('starts')) for calls in ([1] * 8, [3, 1, 4])))


@pytest.mark.slow
def test_on_two_devices():
  assert_same(*(trained(make('mirrored', dropout=0.2), calls) for calls in ([1] * 4, [2, 2])))


@pytest.mark.slow
def test_calls_end_where_something_is_due(corpus, tmp_path, monkeypatch, capsys):
  """A curriculum, passes, reports, evaluations, samples and saves: the run is the one of single steps."""
  taken, steps = [], Learner.steps

  def counted(self, batches, carry, decisions):
    taken.append(len(batches))
    return steps(self, batches, carry, decisions)

  monkeypatch.setattr(Learner, 'steps', counted)
  flags = '--chunk_curriculum=8,16', '--average=ema'
  for name, others in (('one', []), ('four', ['--steps_per_call=4'])):
    command = [flag for flag in runs.flags(corpus, tmp_path / name, *flags, *others) if 'chunk_length' not in flag]
    train.run(command)
  assert taken and set(taken) == {4}
  one, four = (runs.metrics(tmp_path / name) for name in ('one', 'four'))
  assert one == (four if EXACT else [pytest.approx(line, rel=1e-4) for line in four])
  left = [{str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob('*.*')
           if 'events' not in p.name} for name in ('one', 'four')]
  assert left[0] == left[1]
  (a, _), (b, _) = (runs.last(tmp_path / name) for name in ('one', 'four'))
  for name in a:
    np.testing.assert_allclose(a[name], b[name], 0 if EXACT else 1e-4, 0 if EXACT else 1e-5)


def test_a_run_may_go_on_with_another_number(corpus, tmp_path, capsys):
  workdir = tmp_path / 'run'
  train.run(runs.flags(corpus, workdir, '--steps=12'))
  path, = checkpoint.saved(workdir)[:1]
  arrays, state = checkpoint.read(path)
  checkpoint.write(workdir, path.name, arrays, {**state, 'finished': ''})
  config = workdir / 'config.json'
  config.write_text(config.read_text().replace('"steps": 12', '"steps": 24'))
  train.run(['charlm-train', f'--workdir={workdir}', '--steps_per_call=5'])
  assert 'Trained for 24 steps' in capsys.readouterr().out


@pytest.mark.parametrize('flags, words', [
    (['--steps_per_call=6'], '--steps_per_call=6: expected at most --report_every=5'),
    (['--steps=0', '--max_minutes=1', '--steps_per_call=2'], 'the learning rate follows the clock')])
def test_what_is_refused(corpus, tmp_path, capsys, flags, words):
  assert words in runs.refused(runs.flags(corpus, tmp_path / 'run', *flags), capsys)
