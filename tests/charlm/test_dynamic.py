"""Dynamic evaluation against its slow twin: NumPy in float64, gradients by differences."""
import numpy as np
import pytest
import tensorflow as tf

import references
from charlm.config import ModelConfig, RunError
from charlm.dynamic import EPSILON, Dynamic
from charlm.model import LanguageModel
from data_pipeline import streams

V = 5
TEXT = (np.random.default_rng(0).integers(0, 2, 200).cumsum() % V).astype(np.uint8)


def make(**options):
  one = LanguageModel(ModelConfig(**{**dict(units=3, embedding_size=2, input_units=3, layers=1), **options}), V, seed=1)
  random = np.random.default_rng(0)
  for v in one.variables:
    v.assign(random.normal(size=v.shape))
  return one


def training(batch_size, length, steps):
  rows = streams.training_rows(len(TEXT), batch_size)
  return streams.training_stream(TEXT, rows, length=length, stride=length).take(steps)


def evaluation(tokens, batch_size=1, length=4):
  rows = streams.evaluation_rows(tokens, batch_size, length, warm_up=4)
  return streams.evaluation_stream(TEXT[:tokens], rows, length=length)


def segment(weights, batch, state):
  """-> mean nats over all places of the segment, nats, tokens, states after it; weights {name: array}."""
  def linear(name, groups):
    return {'W': weights[f'{name}_kernel'], 'groups': groups, 'gain': weights[f'{name}_gain'],
            'bias': weights[f'{name}_bias']}

  H = len(weights['recurrent_0_initial_0'])
  layer = {'maps': [linear('recurrent_0_input_0', [2 * H, H])], 'U': weights['recurrent_0_kernel'],
           'gain': weights['recurrent_0_gain_0'], 'own': weights['recurrent_0_cell_0']}
  slow = {'embedding': weights['embedding'], 'input': [linear('input_0', [len(weights['input_0_bias'])])],
          'layers': [layer], 'kernels': [weights['output_kernel']], 'bias': weights['output_bias']}
  tokens, reset, weight = (np.asarray(x) for x in batch[:3])
  state = np.where(reset[:, None], weights['recurrent_0_initial_0'], state)
  logits, _, (after,) = references.language_model(slow, tokens[:, :-1], [state])
  nats = (references.nats(logits, tokens[:, 1:]) * weight).sum()
  return nats / weight.size, nats, weight.sum(), after[-1]


def slopes(weights, batch, state):
  arrays = list(weights.values())
  return references.gradient(lambda *_: segment(weights, batch, state)[0], arrays)


@pytest.mark.parametrize('rows', [1, 2])
def test_each_segment_is_scored_and_then_learned_from(rows):
  one, eta, decay = make(), 0.05, 0.7
  weights = {v.name.partition(':')[0]: v.numpy().astype(np.float64) for v in one.trainable_variables}
  state, squares = np.zeros((3, 3)), [0.0] * len(weights)
  for batch in training(3, 5, 4):
    squares = [s + g**2 for s, g in zip(squares, slopes(weights, batch, state), strict=True)]
    state = segment(weights, batch, state)[3]
  scales = [np.sqrt(s / 4) for s in squares]
  mean = np.concatenate([s.ravel() for s in scales]).mean()
  pulls = [np.minimum(decay * s / mean, 1) for s in scales]
  assert any((p == 1).any() for p in pulls)

  start, state, sums = [w.copy() for w in weights.values()], np.zeros((rows, 3)), np.zeros(2)
  for batch in evaluation(18, rows):
    _, nats, tokens, after = segment(weights, batch, state)
    moves = slopes(weights, batch, state)
    sums += nats, tokens
    state = after
    for w, w0, s, pull, g in zip(weights.values(), start, scales, pulls, moves, strict=True):
      w += pull * (w0 - w) - eta * g / (s + EPSILON * mean)

  judge = Dynamic(one, learning_rate=eta, decay=decay)
  judge.gather(training(3, 5, 4), 3)
  got = judge.evaluate(evaluation(18, rows), rows)
  assert (got['tokens'], sums[1]) == (17, 17)
  assert got['nats'] == pytest.approx(sums[0], rel=1e-4)
  still = Dynamic(one, learning_rate=1e-9, decay=decay)
  still.gather(training(3, 5, 4), 3)
  assert abs(still.evaluate(evaluation(18, rows), rows)['nats'] - sums[0]) > 0.01 * sums[0]


def test_the_model_stays_as_it_was_and_so_does_the_figure():
  one = make()
  before = [v.numpy() for v in one.variables]
  judge = Dynamic(one, learning_rate=0.1, decay=0.1)
  judge.gather(training(4, 5, 3), 4)
  first, second = (judge.evaluate(evaluation(30), 1) for _ in range(2))
  assert first == second
  for v, b in zip(one.variables, before, strict=True):
    np.testing.assert_array_equal(v, b)


def test_a_text_that_repeats_itself_is_learned():
  """The same segment again and again: far below what the model that stays as it is makes of it."""
  one, text = make(units=8), np.tile(TEXT[:10], 30)

  def nats(learning_rate):
    judge = Dynamic(one, learning_rate=learning_rate, decay=0.0)
    judge.gather(training(4, 5, 10), 4)
    rows = streams.evaluation_rows(len(text), 1, 10)
    return judge.evaluate(streams.evaluation_stream(text, rows, length=10), 1)['nats'] / (len(text) - 1)

  assert nats(0.01) < 0.7 * nats(1e-9)


def test_a_rate_that_is_too_high_is_told_of():
  judge = Dynamic(make(), learning_rate=1e38, decay=0.0)
  judge.gather(training(4, 5, 3), 4)
  with pytest.raises(RunError, match='--dynamic_learning_rate'):
    judge.evaluate(evaluation(30), 1)


def test_native_kernels_agree_with_xla():
  one, results = make(layers=2), []
  for recurrence in ('auto', 'xla'):
    judge = Dynamic(one, learning_rate=0.01, decay=0.1, recurrence=recurrence)
    judge.gather(training(4, 5, 3), 4)
    results.append(judge.evaluate(evaluation(60), 1)['nats'])
  assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_weights_that_do_not_take_part_stay():
  """A learned initial state has no gradient after the first segment; zeros are not trained at all."""
  one = make(initial_state='zeros')
  judge = Dynamic(one, learning_rate=0.1, decay=0.1)
  judge.gather(training(4, 5, 3), 4)
  assert len(judge.rates) == len(one.trainable_variables) == len(one.variables) - 1
  assert np.isfinite(judge.evaluate(evaluation(30), 1)['nats'])
  assert all(np.isfinite(r).all() for r in map(tf.convert_to_tensor, judge.rates))
