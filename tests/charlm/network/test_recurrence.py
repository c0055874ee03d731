"""The time loop against its slow twin: values, gradients, shapes unknown in advance, repeatability."""
import numpy as np
import pytest
import tensorflow as tf

import references
from charlm.network import cells, normalization
from charlm.network.recurrence import FORMS, Recurrence, Resets, Weights

SIZES = [(1, 1, 4), (1, 3, 2), (5, 2, 3), (4, 1, 5)]  # T, B, H
KINDS = [(cell, norm, own) for cell, owns in (('gru', [1]), ('lstm', [0, 2])) for own in owns
         for norm in normalization.NORMS]


def given_to(cell='gru', norm='separate', own=1, *, T, B, H, dtype=np.float64):
  """x, state, U, gain, own of a layer, as nests, and a gradient of its outputs."""
  random = np.random.default_rng(100 * T + 10 * B + H)
  maps = sum(cells.CELLS[cell].groups)

  def draw(*shape):
    return random.normal(size=shape).astype(dtype)

  state = draw(B, H) if cell == 'gru' else (draw(B, H), draw(B, H))
  gain = {'separate': lambda: draw(maps * H), 'joint': lambda: (draw(maps * H), draw(maps * H)), 'none': tuple}[norm]()
  weights = draw(H) if cell == 'gru' else tuple(draw(H) for _ in range(own))
  return (draw(T, B, maps * H), state, draw(H, maps * H), gain, weights), draw(T, B, H)


def arguments(T, B, H, dtype=np.float64):
  """Those of the layer-norm GRU in one list."""
  given, dy = given_to(T=T, B=B, H=H, dtype=dtype)
  return [*given, dy]


def run_layer(cell, x, state, U, gain, cell_weights, masks=None, *, norm='separate', resets=None, form=FORMS['CPU']):
  """As the backends do it: with U centred."""
  one = Recurrence(cell, norm, form=form)
  return one(x, state, Weights(one.centred(U), gain, cell_weights), masks, resets)


def layer(x, state, U, gain, bias):
  return run_layer(cells.GRU, x, state, U, gain, bias)


def outputs_and_gradients(x, state, U, gain, bias, dy, *, cell='gru', norm='separate', masks=None, form=FORMS['CPU']):
  """-> outputs, states, and the gradients of x, state, U, gain, bias; flat. A joint norm's x is centred first."""
  given, cell = (x, state, U, gain, bias), cells.CELLS[cell]
  with tf.GradientTape() as tape:
    tape.watch(given)
    if norm == 'joint':
      x = normalization.centre(x, [count * U.shape[0] for count in cell.groups])
    outputs, states = run_layer(cell, x, *given[1:], masks, norm=norm, form=form)
    # The loss looks at all of the state, at all tokens.
    loss = tf.add_n([tf.reduce_sum(tf.sin(s) * dy) for s in tf.nest.flatten(states)])
  return [outputs, *tf.nest.flatten(states), *tape.gradient(loss, tf.nest.flatten(given))]


COMPILED = tf.function(outputs_and_gradients, jit_compile=True, reduce_retracing=False)


def unknown(*shapes, dtype=tf.float64):
  return [tf.TensorSpec(shape, dtype) for shape in shapes]


def graph_of_unknown_sizes(given, dy, **options):
  specs = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), given)
  x, state, *weights = specs
  rows = tf.nest.map_structure(lambda s: tf.TensorSpec([None, *s.shape[1:]], s.dtype), state)
  free = [tf.TensorSpec([None, None, s.shape[-1]], s.dtype) for s in (x, dy)]
  return tf.function(lambda *g: outputs_and_gradients(*g, **options),
                     input_signature=[free[0], rows, *weights, free[1]])


def assert_agrees_with_the_slow_twin(run, given, dy, cell, norm, factors=()):
  outputs, *results = run(*tf.nest.map_structure(tf.constant, given), tf.constant(dy))

  def slow(*flat):
    return tf.nest.flatten(references.LAYERS[cell](*tf.nest.pack_sequence_as(given, flat), *factors, norm=norm))

  flat = tf.nest.flatten(given)
  wanted = slow(*flat)
  np.testing.assert_array_equal(outputs, results[0])
  for got, want in zip(results[:len(wanted)], wanted, strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
  slopes = references.gradient(lambda *flat: sum((np.sin(s) * dy).sum() for s in slow(*flat)), flat)
  for gradient, slope in zip(results[len(wanted):], slopes, strict=True):
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('T, B, H', SIZES)
@pytest.mark.parametrize('how', ['eager', 'compiled', 'sizes unknown'])
def test_values_and_gradients_agree_with_the_slow_twin(how, T, B, H):
  given, dy = given_to(T=T, B=B, H=H)
  run = {'eager': outputs_and_gradients, 'compiled': COMPILED, 'sizes unknown': graph_of_unknown_sizes(given, dy)}[how]
  assert_agrees_with_the_slow_twin(run, given, dy, 'gru', 'separate')


@pytest.mark.parametrize('platform', sorted(set(FORMS) - {'CPU'}))
@pytest.mark.parametrize('cell, norm, own', KINDS)
def test_forms_for_accelerators_agree_with_that_for_a_cpu(platform, cell, norm, own):
  given, dy = tf.nest.map_structure(tf.constant, given_to(cell, norm, own, T=4, B=2, H=3))
  results = [tf.function(lambda *g, form=form: outputs_and_gradients(*g, cell=cell, norm=norm, form=form),
                         jit_compile=True)(*given, dy) for form in (FORMS['CPU'], FORMS[platform])]
  for got, want in zip(*results, strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('cell, norm, own', KINDS)
@pytest.mark.parametrize('masked', [False, True])
def test_each_cell_and_norm_agrees_with_the_slow_twin(cell, norm, own, masked):
  """Masks: zoneout and recurrent dropout, as cells.py has them."""
  given, dy = given_to(cell, norm, own, T=4, B=2, H=3)
  kept = np.random.default_rng(0).random((len(cells.CELLS[cell].masks), 4, 2, 3)) < 0.6
  scales = (1.0, 1 / 0.6, 1.0)[:len(kept)]
  masks = [cells.Mask(tf.constant(k), scale) for k, scale in zip(kept, scales, strict=True)] if masked else None
  run = tf.function(lambda *g: outputs_and_gradients(*g, cell=cell, norm=norm, masks=masks), jit_compile=True)
  factors = [k * scale for k, scale in zip(kept, scales, strict=True)] if masked else ()
  assert_agrees_with_the_slow_twin(run, given, dy, cell, norm, factors)


@pytest.mark.parametrize('form', [FORMS['CPU'], FORMS['GPU']])
def test_sizes_may_be_unknown_for_an_lstm(form):
  given, dy = given_to('lstm', 'joint', 2, T=4, B=2, H=3)
  run = graph_of_unknown_sizes(given, dy, cell='lstm', norm='joint', form=form)
  assert_agrees_with_the_slow_twin(run, given, dy, 'lstm', 'joint')


@pytest.mark.parametrize('form', FORMS.values(), ids=FORMS)
@pytest.mark.parametrize('T, B, H', SIZES)
def test_resets_agree_with_the_slow_twin(T, B, H, form):
  """A document may start at the first token, at the last, and at several in a row."""
  *inputs, dy = arguments(T, B, H)
  other = np.random.default_rng(1).normal(size=(B, H))
  where = np.random.default_rng(2).random((T, B)) < 0.5
  where[0, 0] = where[-1, -1] = True

  @tf.function(jit_compile=True)
  def run(other, *given):
    resets = Resets(tf.constant(where), other)
    with tf.GradientTape() as tape:
      tape.watch((other, *given))
      outputs, _ = run_layer(cells.GRU, *given, resets=resets, form=form)
      loss = tf.reduce_sum(outputs * dy)
    return [outputs, *tape.gradient(loss, (other, *given))]

  def slow(other, x, state, *weights):
    outputs = []
    for x_t, afresh in zip(x, where, strict=True):
      state = np.where(afresh[:, None], other, state)
      state, = references.gru_layer(x_t[None], state, *weights)
      outputs.append(state)
    return np.stack(outputs)

  given = [other, *inputs]
  outputs, *gradients = run(*map(tf.constant, given))
  np.testing.assert_allclose(outputs, slow(*given), rtol=1e-9, atol=1e-10)
  for gradient, slope in zip(gradients, references.gradient(lambda *g: (slow(*g) * dy).sum(), given), strict=True):
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


def test_float32_agrees_with_float64():
  single = COMPILED(*map(tf.constant, arguments(20, 8, 16, np.float32)))
  double = COMPILED(*map(tf.constant, arguments(20, 8, 16)))
  for got, want in zip(single, double, strict=True):
    assert got.dtype == tf.float32
    assert np.linalg.norm(got.numpy() - want.numpy()) < 1e-4 * np.linalg.norm(want)


def test_runs_twice_to_the_same_bits():
  given = [tf.constant(a) for a in arguments(20, 8, 16, np.float32)]
  for first, second in zip(COMPILED(*given), COMPILED(*given), strict=True):
    np.testing.assert_array_equal(first, second)


def test_gradient_reaches_a_state_in_the_middle():
  """The loss may look at any token's state, not only at the last."""
  *inputs, _ = arguments(5, 2, 3)
  dy = np.zeros((5, 2, 3))
  dy[2] = 1
  gradient = outputs_and_gradients(*map(tf.constant, (*inputs, dy)))[2]
  assert np.all(np.any(gradient.numpy()[:3] != 0, axis=(1, 2)))
  np.testing.assert_array_equal(gradient[3:], np.zeros((2, 2, 9)))


def test_chunks_with_state_carried_agree_with_one_pass():
  x, state, U, gain, bias, _ = map(tf.constant, arguments(7, 2, 3))
  whole, _ = layer(x, state, U, gain, bias)
  first, states = layer(x[:4], state, U, gain, bias)
  second, _ = layer(x[3:], states[2], U, gain, bias)  # chunks overlap by one token
  np.testing.assert_allclose(first, whole[:4], rtol=1e-12)
  np.testing.assert_allclose(second, whole[3:], rtol=1e-12)


@pytest.mark.parametrize('cell, norm, own', KINDS)
def test_step_agrees_with_the_layer(cell, norm, own):
  (x, state, *weights), _ = tf.nest.map_structure(tf.constant, given_to(cell, norm, own, T=4, B=2, H=3))
  cell = cells.CELLS[cell]
  _, states = run_layer(cell, x, state, *weights, norm=norm)
  one = Recurrence(cell, norm)
  for t in range(4):
    state = one.step(x[t], state, one.split(Weights(one.centred(weights[0]), *weights[1:])))
    for got, want in zip(*map(tf.nest.flatten, (state, states)), strict=True):
      np.testing.assert_allclose(got, want[t], rtol=1e-9, atol=1e-12)


def test_step_takes_factors():
  x, state, U, gain, bias, _ = arguments(1, 2, 3)
  weights = Weights(normalization.centre(U, [6, 3]), gain, bias)
  layer = Recurrence(cells.GRU, 'separate')
  got = layer.step(x[0], state, layer.split(weights), (0.7, 1.0))
  np.testing.assert_allclose(got, references.gru_layer(x, state, U, gain, bias, 0.7)[0], rtol=1e-9)


def test_runs_in_replicas():
  given = [tf.constant(a) for a in arguments(3, 2, 4)]
  strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])

  @tf.function
  def both():
    return strategy.run(COMPILED, given)

  want = COMPILED(*given)
  for per_replica, one in zip(both(), want, strict=True):
    for value in strategy.experimental_local_results(per_replica):
      np.testing.assert_array_equal(value, one)


def test_saved_model_agrees(tmp_path):
  x, state, U, gain, bias, _ = map(tf.constant, arguments(4, 2, 3))
  module = tf.Module()
  module.run = tf.function(lambda x, state: layer(x, state, U, gain, bias)[0],
                           input_signature=unknown((None, None, 9), (None, 3)))
  tf.saved_model.save(module, str(tmp_path))
  loaded = tf.saved_model.load(str(tmp_path)).run
  np.testing.assert_allclose(loaded(x, state), layer(x, state, U, gain, bias)[0], rtol=1e-12)
  np.testing.assert_allclose(loaded(x[:1, :1], state[:1]), layer(x[:1, :1], state[:1], U, gain, bias)[0], rtol=1e-12)


@pytest.mark.parametrize('groups', [(4,), (6, 3), (2, 2, 2)])
def test_centred_weights_with_layer_norm_are_layer_norm(groups):
  random = np.random.default_rng(0)
  inputs, weights = random.normal(size=(5, 7)), random.normal(size=(7, sum(groups)))
  gain, bias = random.normal(size=(2, sum(groups)))
  got = normalization.layer_norm(inputs @ normalization.centre(weights, groups), gain, bias, groups)
  edges = np.cumsum(groups)[:-1]
  parts = zip(np.split(inputs @ weights, edges, -1), np.split(gain, edges), np.split(bias, edges), strict=True)
  want = np.concatenate([references.layer_norm(*part) for part in parts], -1)
  np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
