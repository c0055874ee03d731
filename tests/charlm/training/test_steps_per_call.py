"""Several steps in one call: as one by one, and never past a point where something is due."""
import numpy as np
import pytest

from charlm.network.backend import kernels
from charlm.training.learner import StepDecisions
from data_pipeline import streams
from data_pipeline.rows import training_rows
from learners import RECIPES, STARTS, TEXT
from learners import small as make


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


@pytest.mark.parametrize('recurrence', ['xla', pytest.param('native', marks=pytest.mark.skipif(
    kernels.register()[1], reason='the native kernels were not built'))])
@pytest.mark.parametrize('recipe', [
    dict(dropout=0.2, zoneout=0.1, train=dict(average='ema')), dict(starts=STARTS, overlap=3),
    *(pytest.param(recipe, marks=pytest.mark.slow) for recipe in RECIPES)], ids=['noise', 'documents', 'gru', 'lstm'])
def test_several_steps_in_one_call_are_those_one_by_one(recipe, recurrence):
  recipe, starts = dict(recipe), recipe.get('starts')
  recipe.pop('starts', None)
  overlap = recipe.get('overlap', 0)
  (a, carry_a, one), (b, carry_b, other) = (
      trained(make(recurrence=recurrence, **recipe), calls, overlap=overlap, starts=starts)
      for calls in ([1] * 8, [3, 1, 4]))
  assert one == other
  for x, y in zip([*a, *carry_a], [*b, *carry_b], strict=True):
    np.testing.assert_array_equal(x, y)


def test_on_two_devices():
  (a, _, one), (b, _, other) = (trained(make('mirrored', dropout=0.2), calls) for calls in ([1] * 4, [2, 2]))
  assert one == other
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x, y)
