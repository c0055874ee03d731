"""The time loop against its slow twin: values, gradients, shapes unknown in advance, repeatability."""
import numpy as np
import pytest
import tensorflow as tf

import references
from charlm import cells, recurrence

SIZES = [(1, 1, 4), (1, 3, 2), (5, 2, 3), (4, 1, 5)]  # T, B, H


def arguments(T, B, H, dtype=np.float64):
  """x, state, U, gain, bias and a gradient of the outputs."""
  random = np.random.default_rng(100 * T + 10 * B + H)
  shapes = (T, B, 3 * H), (B, H), (H, 3 * H), (3 * H,), (H,), (T, B, H)
  return [random.normal(size=shape).astype(dtype) for shape in shapes]


def layer(x, state, U, gain, bias):
  return recurrence.recurrent_layer(cells.GRU, x, state, U, gain, bias)


def outputs_and_gradients(x, state, U, gain, bias, dy):
  variables = [x, state, U, gain, bias]
  with tf.GradientTape() as tape:
    tape.watch(variables)
    outputs, states = layer(*variables)
    loss = tf.reduce_sum(outputs * dy)
  return [outputs, states, *tape.gradient(loss, variables)]


COMPILED = tf.function(outputs_and_gradients, jit_compile=True, reduce_retracing=False)


def unknown(*shapes, dtype=tf.float64):
  return [tf.TensorSpec(shape, dtype) for shape in shapes]


def graph_of_unknown_sizes(H):
  signature = unknown((None, None, 3 * H), (None, H), (H, 3 * H), (3 * H,), (H,), (None, None, H))
  return tf.function(outputs_and_gradients, input_signature=signature)


@pytest.mark.parametrize('T, B, H', SIZES)
@pytest.mark.parametrize('how', ['eager', 'compiled', 'sizes unknown'])
def test_values_and_gradients_agree_with_the_slow_twin(how, T, B, H):
  *inputs, dy = arguments(T, B, H)
  run = {'eager': outputs_and_gradients, 'compiled': COMPILED, 'sizes unknown': graph_of_unknown_sizes(H)}[how]
  outputs, states, *gradients = run(*map(tf.constant, (*inputs, dy)))
  np.testing.assert_allclose(outputs, references.gru_layer(*inputs), rtol=1e-9, atol=1e-10)
  np.testing.assert_array_equal(outputs, states)
  slopes = references.gradient(lambda *given: (references.gru_layer(*given) * dy).sum(), inputs)
  for gradient, slope in zip(gradients, slopes, strict=True):
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


def test_masks_agree_with_the_slow_twin():
  """Zoneout is a mask on the update gate, recurrent dropout one on the candidate."""
  *inputs, dy = arguments(4, 2, 3)
  kept = np.random.default_rng(0).random((2, 4, 2, 3)) < 0.6
  scales = 1.0, 1 / 0.6

  @tf.function(jit_compile=True)
  def run(*given):
    masks = [cells.Mask(tf.constant(k), scale) for k, scale in zip(kept, scales, strict=True)]
    with tf.GradientTape() as tape:
      tape.watch(given)
      outputs, _ = recurrence.recurrent_layer(cells.GRU, *given, masks)
      loss = tf.reduce_sum(outputs * dy)
    return [outputs, *tape.gradient(loss, given)]

  def slow(*given):
    return references.gru_layer(*given, *(k * scale for k, scale in zip(kept, scales, strict=True)))

  outputs, *gradients = run(*map(tf.constant, inputs))
  np.testing.assert_allclose(outputs, slow(*inputs), rtol=1e-9, atol=1e-10)
  for gradient, slope in zip(gradients, references.gradient(lambda *g: (slow(*g) * dy).sum(), inputs), strict=True):
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('T, B, H', SIZES)
def test_starts_agree_with_the_slow_twin(T, B, H):
  """A document may start at the first token, at the last, and at several in a row."""
  *inputs, dy = arguments(T, B, H)
  other = np.random.default_rng(1).normal(size=(B, H))
  where = np.random.default_rng(2).random((T, B)) < 0.5
  where[0, 0] = where[-1, -1] = True

  @tf.function(jit_compile=True)
  def run(other, *given):
    starts = recurrence.Starts(tf.constant(where), other)
    with tf.GradientTape() as tape:
      tape.watch((other, *given))
      outputs, _ = recurrence.recurrent_layer(cells.GRU, *given, starts=starts)
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


def test_step_agrees_with_the_layer():
  x, state, U, gain, bias, _ = map(tf.constant, arguments(4, 2, 3))
  outputs, _ = layer(x, state, U, gain, bias)
  centred = recurrence.centre(U, [6, 3])
  for t in range(4):
    state = recurrence.step(cells.GRU, x[t], state, centred, gain, bias)
    np.testing.assert_allclose(state, outputs[t], rtol=1e-12)


def test_step_takes_factors():
  x, state, U, gain, bias, _ = arguments(1, 2, 3)
  got = recurrence.step(cells.GRU, x[0], state, recurrence.centre(U, [6, 3]), gain, bias, (0.7, 1.0))
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
  got = recurrence.layer_norm(inputs @ recurrence.centre(weights, groups), gain, bias, groups)
  edges = np.cumsum(groups)[:-1]
  parts = zip(np.split(inputs @ weights, edges, -1), np.split(gain, edges), np.split(bias, edges), strict=True)
  want = np.concatenate([references.layer_norm(*part) for part in parts], -1)
  np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
