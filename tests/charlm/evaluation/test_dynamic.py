"""Dynamic evaluation against its slow twin: NumPy in float64, gradients by differences."""
import numpy as np
import pytest
import tensorflow as tf

import references
import slow_model
from charlm.evaluation.dynamic import EPSILON, DynamicScorer, accumulate, score_file
from charlm.network.backend import choice
from corpora import token_file
from data_pipeline import streams
from data_pipeline.rows import evaluation_rows, training_rows
from flags.errors import RunError

V = 5
TEXT = (np.random.default_rng(0).integers(0, 2, 200).cumsum() % V).astype(np.uint8)


def make(**options):
  return slow_model.random_model(V, **{**dict(units=3, embedding_size=2, input_units=3, layers=1), **options})


def training(batch_size, length, steps, starts=None):
  rows = training_rows(len(TEXT), batch_size)
  return streams.training_stream(TEXT, rows, length=length, stride=length, starts=starts).take(steps)


def evaluation(tokens, batch_size=1, length=4, starts=None):
  """-> batches of a text, and its rows."""
  rows = evaluation_rows(tokens, batch_size, length)
  return streams.evaluation_stream(TEXT[:tokens], rows, length=length, starts=starts), rows


def nats_of(scorer, batches, rows):
  """-> nats of the batches, and the weights as they were."""
  try:
    return accumulate(scorer, batches, rows)[0]
  finally:
    scorer.restore()


def name(variable):
  return variable.name.partition(':')[0]


def segment(one, weights, batch, state):
  """-> mean nats over all places of the segment, nats, tokens, states after it; weights {name: array}."""
  given = slow_model.weights(one, lambda v: weights[name(v)])
  initial = slow_model.initial(one, given)
  tokens, reset, weight = (np.asarray(x) for x in batch[:3])
  starts = np.zeros_like(weight, bool) if batch.starts is None else batch.starts.numpy()
  nats = 0.0
  for t in range(weight.shape[1]):
    fresh = (starts[:, t] | (reset & (t == 0)))[:, None]
    state = tf.nest.map_structure(lambda s, i, fresh=fresh: np.where(fresh, i, s), state, initial)
    logits, _, after = slow_model.slow(one, given, tokens[:, t:t + 1], state)
    state = tf.nest.map_structure(lambda s: s[0], after)
    nats += (references.nats(logits, tokens[:, t + 1:t + 2]) * weight[:, t:t + 1]).sum()
  return nats / weight.size, nats, weight.sum(), state


def slopes(one, weights, batch, state):
  return references.gradient(lambda *_: segment(one, weights, batch, state)[0], list(weights.values()))


def blank(one, rows):
  zeros = np.zeros((rows, 3))
  return [(zeros, zeros) if one.config.cell == 'lstm' else zeros for _ in one.recurrent_layers]


@pytest.mark.parametrize('rows,options,starts', [
  (1, {}, None), pytest.param(1, dict(cell='lstm', cell_norm=True, zoneout=0.2), None, marks=pytest.mark.slow),
  pytest.param(2, dict(norm='joint'), np.array([0, 3, 6, 7, 11, 60, 61]), marks=pytest.mark.slow)],
  ids=['gru', 'lstm', 'documents'])
def test_each_segment_is_scored_and_then_learned_from(rows, options, starts):
  one, eta, decay = make(**options), 0.03, 0.7
  weights = {name(v): v.numpy().astype(np.float64) for v in one.trainable_variables}
  state, squares = blank(one, 3), [0.0] * len(weights)
  for batch in training(3, 5, 4, starts):
    squares = [s + g**2 for s, g in zip(squares, slopes(one, weights, batch, state), strict=True)]
    state = segment(one, weights, batch, state)[3]
  scales = [np.sqrt(s / 4) for s in squares]
  mean = np.concatenate([s.ravel() for s in scales]).mean()
  pulls = [np.minimum(decay * s / mean, 1) for s in scales]
  assert any((p == 1).any() for p in pulls)

  batches, cut = evaluation(18, rows, starts=starts)
  start, state, sums = [w.copy() for w in weights.values()], blank(one, 1), np.zeros(2)
  if rows == 2:  # the second begins where the trained weights leave the first
    second = state
    for batch in evaluation(18, starts=starts)[0].take(cut.length // 4):
      second = segment(one, weights, batch, second)[3]
    state = tf.nest.map_structure(lambda a, b: np.concatenate([a, b]), state, second)
  for batch in batches:
    _, nats, tokens, after = segment(one, weights, batch, state)
    moves = slopes(one, weights, batch, state)
    sums += nats, tokens
    state = after
    for w, w0, s, pull, g in zip(weights.values(), start, scales, pulls, moves, strict=True):
      w += pull * (w0 - w) - eta * g / (s + EPSILON * mean)

  judge = DynamicScorer(one, learning_rate=eta, decay=decay)
  judge.gather(training(3, 5, 4, starts), 3)
  nats, tokens = accumulate(judge, batches, cut)
  judge.restore()
  assert (tokens, sums[1]) == (17, 17)
  assert nats == pytest.approx(sums[0], rel=1e-4)
  still = DynamicScorer(one, learning_rate=1e-9, decay=decay)
  still.gather(training(3, 5, 4, starts), 3)
  assert abs(nats_of(still, batches, cut) - sums[0]) > 0.01 * sums[0]


@pytest.mark.slow
def test_models_of_any_size_take_steps_of_about_one_length():
  lengths = []
  for units in 4, 32:
    one = make(units=units, layers=2)
    judge = DynamicScorer(one, learning_rate=0, decay=0)
    judge.gather(training(4, 5, 3), 4)
    before = [w.numpy() for w in judge.weights]
    judge.score(next(iter(evaluation(30)[0])), one.initial_state(1))
    lengths.append(sum(((w.numpy() - b)**2).sum() for w, b in zip(judge.weights, before, strict=True))**0.5)
  assert 0.4 < lengths[0] / lengths[1] < 2.5, lengths


def test_the_model_stays_as_it_was_and_so_does_the_figure():
  one = make()
  before = [v.numpy() for v in one.variables]
  judge = DynamicScorer(one, learning_rate=0.1, decay=0.1)
  judge.gather(training(4, 5, 3), 4)
  first, second = (nats_of(judge, *evaluation(30)) for _ in range(2))
  assert first == second
  for v, b in zip(one.variables, before, strict=True):
    np.testing.assert_array_equal(v, b)


def test_a_text_that_repeats_itself_is_learned():
  """The same segment again and again: far below what the model that stays as it is makes of it."""
  one, text = make(units=8), np.tile(TEXT[:10], 30)

  def nats(learning_rate):
    judge = DynamicScorer(one, learning_rate=learning_rate, decay=0.0)
    judge.gather(training(4, 5, 10), 4)
    rows = evaluation_rows(len(text), 1, 10)
    return nats_of(judge, streams.evaluation_stream(text, rows, length=10), rows) / (len(text) - 1)

  assert nats(0.01) < 0.7 * nats(1e-9)


def test_a_rate_that_is_too_high_is_told_of(tmp_path):
  judge = DynamicScorer(make(), learning_rate=1e38, decay=0.0)
  judge.gather(training(4, 5, 3), 4)
  with pytest.raises(RunError, match='--dynamic_learning_rate'):
    score_file(judge, token_file(tmp_path, TEXT[:30]), batch_size=1, length=4)


def test_native_kernels_agree_with_xla():
  one, results = make(layers=2), []
  for recurrence in ('auto', 'xla'):
    same = one.with_backend(choice.choose(recurrence, one.config))
    judge = DynamicScorer(same, learning_rate=0.01, decay=0.1)
    judge.gather(training(4, 5, 3), 4)
    results.append(nats_of(judge, *evaluation(60)))
  assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_weights_that_do_not_take_part_stay():
  """A learned initial state has no gradient after the first segment; zeros are not trained at all."""
  one = make(initial_state='zeros')
  judge = DynamicScorer(one, learning_rate=0.1, decay=0.1)
  judge.gather(training(4, 5, 3), 4)
  assert len(judge.rates) == len(one.trainable_variables) == len(one.variables) - 1
  assert np.isfinite(nats_of(judge, *evaluation(30)))
  assert all(np.isfinite(r).all() for r in map(tf.convert_to_tensor, judge.rates))
