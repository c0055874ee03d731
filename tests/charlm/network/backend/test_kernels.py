"""The native kernels, in each instruction set of this machine, against the slow twins and against XLA."""
import concurrent.futures
import functools
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

import references
from charlm.network import cells, normalization, runtime
from charlm.network.backend import kernels
from charlm.network.backend.native import NativeBackend
from charlm.network.backend.xla import XlaBackend
from charlm.network.recurrence import Lookup, Recurrence, Weights

ROOT = pathlib.Path(__file__).parents[4]
SETS, PROBLEM = kernels.register()
needs_kernels = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)
SIZES = [(1, 1, 2), (3, 1, 5), (4, 2, 16), (5, 3, 7), (3, 9, 33), (2, 17, 24)]  # T, B, H


@pytest.fixture(params=SETS)
def instruction_set(request, monkeypatch):
  monkeypatch.setattr(kernels, 'register', lambda: ([request.param], ''))
  monkeypatch.setattr(runtime, 'threads', lambda: 2)
  monkeypatch.setattr(kernels, '_pack', tf.function(kernels._pack.python_function, jit_compile=True))  # traced anew
  return request.param


def arguments(T, B, H):
  """x, state, U, gain, bias and a gradient of the outputs."""
  random = np.random.default_rng(100 * T + 10 * B + H)
  shapes = (T, B, 3 * H), (B, H), (H, 3 * H), (3 * H,), (H,), (T, B, H)
  return [random.normal(size=shape) for shape in shapes]


def masks_of(T, B, H, masked):
  if not masked:
    return [cells.Mask(), cells.Mask()]
  kept = np.random.default_rng(1).random((2, T, B, H)) < 0.7
  return [cells.Mask(tf.constant(kept[0])), cells.Mask(tf.constant(kept[1]), 1 / 0.7)]


def layer(backend, x, state, U, gain, bias, masks=None):
  """A GRU layer as a model's backend runs it."""
  masks = masks or [cells.Mask(), cells.Mask()]
  read = backend.recurrent(cells.GRU, 'separate', Weights(U, gain, bias), lambda shape: masks)
  return read(x, state, None)


def outputs_and_gradients(given, masks, dtype, backend):
  """-> outputs and the gradients of x, state, U, gain, bias, compiled."""
  @tf.function(jit_compile=True)
  def run(*given):
    with tf.GradientTape() as tape:
      tape.watch(given[:-1])
      outputs, _ = layer(backend, *given[:-1], masks)
      loss = tf.reduce_sum(outputs * given[-1])
    return [outputs, *tape.gradient(loss, given[:-1])]

  return [a.numpy() for a in run(*(tf.constant(g, dtype) for g in given))]


@needs_kernels
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('T, B, H', SIZES)
def test_layer_agrees_with_the_slow_twin(T, B, H, masked, instruction_set):
  given, masks = arguments(T, B, H), masks_of(T, B, H, masked)
  got = outputs_and_gradients(given, masks, tf.float32, NativeBackend())
  factors = [1.0 if m.keep is None else m.keep.numpy() * m.scale for m in masks]
  np.testing.assert_allclose(got[0], references.gru_layer(*given[:-1], *factors), rtol=1e-4, atol=1e-5)
  # The float64 gradient of the time loop is compared with differences of the slow twin in test_recurrence.
  exact = outputs_and_gradients(given, masks, tf.float64, XlaBackend())
  for native_gradient, gradient in zip(got[1:], exact[1:], strict=True):
    assert np.linalg.norm(native_gradient - gradient) < 2e-5 * np.linalg.norm(gradient)


@needs_kernels
def test_layer_without_gradient_gives_the_same_states(instruction_set):
  *given, _ = (tf.constant(a, tf.float32) for a in arguments(4, 5, 9))
  saving, forgetting = (tf.function(functools.partial(layer, backend), jit_compile=True)
                        for backend in (NativeBackend(), NativeBackend().forward_only()))
  np.testing.assert_array_equal(saving(*given)[0], forgetting(*given)[0])


@needs_kernels
@pytest.mark.parametrize('V', [4, 600])
def test_layer_takes_rows_of_a_table(V, instruction_set):
  """The table's gradient sums those of the tokens that are the same; a large table gets it in another way."""
  _, *given = (tf.constant(a, tf.float32) for a in arguments(6, 5, 7))
  random = np.random.default_rng(0)
  table, tokens = tf.constant(random.normal(size=(V, 21)), tf.float32), tf.constant(random.integers(0, V, (6, 5)))
  results = []
  for backend in NativeBackend(), XlaBackend():
    @tf.function(jit_compile=True)
    def run(table, *given, backend=backend):
      with tf.GradientTape() as tape:
        tape.watch([table, given[:-1]])
        outputs, _ = layer(backend, Lookup(table, tf.cast(tokens, tf.int32)), *given[:-1])
        loss = tf.reduce_sum(outputs * given[-1])
      return [outputs, *map(tf.convert_to_tensor, tape.gradient(loss, [table, *given[:-1]]))]

    results.append(run(table, *given))
  for got, want in zip(*results, strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize('n, m, groups', [(1, 3, [4]), (5, 7, [6, 3]), (70, 300, [34, 17]), (129, 20, [5, 5, 5])])
def test_linear_map_agrees_with_the_slow_twin(n, m, groups, instruction_set):
  random = np.random.default_rng(n)
  columns = sum(groups)
  x, W, dy = (random.normal(size=shape) for shape in ((n, m), (m, columns), (n, columns)))
  gain, bias = random.normal(size=(2, columns))

  def run(x, W, gain, bias, fast):
    with tf.GradientTape() as tape:
      tape.watch([x, W, gain, bias])
      centred = normalization.centre(W, groups)
      if fast:
        y = kernels.linear_map(x, centred, gain, bias, groups, differentiable=True)
      else:
        y = normalization.layer_norm(x @ centred, gain, bias, groups)
      loss = tf.reduce_sum(y * tf.cast(dy, y.dtype))
    return [y, *tape.gradient(loss, [x, W, gain, bias])]

  given = [tf.constant(a) for a in (x, W, gain, bias)]
  fast = tf.function(run, jit_compile=True)(*(tf.cast(g, tf.float32) for g in given), True)
  edges = np.cumsum(groups)[:-1]
  parts = zip(*(np.split(a, edges, -1) for a in (x @ W, gain, bias)), strict=True)
  want = np.concatenate([references.layer_norm(*part) for part in parts], -1)
  np.testing.assert_allclose(fast[0], want, rtol=2e-3, atol=2e-4)
  for got, want in zip(fast, run(*given, False), strict=True):
    assert np.linalg.norm(got.numpy() - want.numpy()) < 2e-5 * np.linalg.norm(want)
  forward = tf.function(kernels.linear_map, jit_compile=True)
  centred = normalization.centre(tf.cast(W, tf.float32), groups)
  alone = forward(*(tf.cast(a, tf.float32) for a in (x, centred, gain, bias)), groups, differentiable=False)
  np.testing.assert_allclose(alone, fast[0], rtol=1e-4, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize('n, m, k', [(1, 1, 1), (3, 5, 7), (4, 256, 24), (37, 300, 50), (300, 257, 97), (130, 700, 3)])
def test_matmul_agrees_with_numpy(n, m, k, instruction_set):
  random = np.random.default_rng(n + m + k)
  a, b, dc = (random.normal(size=shape).astype('float32') for shape in ((n, m), (m, k), (n, k)))

  @tf.function(jit_compile=True)
  def run(a, b):
    with tf.GradientTape() as tape:
      tape.watch([a, b])
      c = kernels.matmul(a, b)
      loss = tf.reduce_sum(c * dc)
    return [c, *tape.gradient(loss, [a, b])]

  double = [m.astype('float64') for m in (a, b, dc)]
  wanted = double[0] @ double[1], double[2] @ double[1].T, double[0].T @ double[2]
  for got, want in zip(run(tf.constant(a), tf.constant(b)), wanted, strict=True):
    assert np.linalg.norm(got - want) < 1e-6 * np.linalg.norm(want)


@needs_kernels
@pytest.mark.parametrize('n, m, k', [(1, 1, 2), (3, 300, 50), (33, 257, 97)])
def test_product_and_map_of_few_rows_agree_with_those_of_many(n, m, k, instruction_set):
  random = np.random.default_rng(n)
  shapes = (n, m), (m, k), (k,), (k,)
  a, b, gain, bias = (tf.constant(random.normal(size=shape), tf.float32) for shape in shapes)
  groups = (k - k // 3, k // 3) if k > 2 else (k,)
  product, linear_map = kernels.fixed_product(b), kernels.fixed_map(b, gain, bias, groups)
  few = tf.function(lambda a: (product(a), linear_map(a)), jit_compile=True)
  many = tf.function(lambda a: (kernels.matmul(a, b), kernels.linear_map(a, b, gain, bias, groups,
                                                                         differentiable=False)), jit_compile=True)
  for got, want in zip(few(a), many(a), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize('from_table', [False, True])
@pytest.mark.parametrize('B, H', [(1, 2), (1, 130), (3, 7), (17, 24)])
def test_one_token_of_the_gru_agrees_with_the_step_of_xla(B, H, from_table, instruction_set):
  x, state, U, gain, bias, _ = (tf.constant(a, tf.float32) for a in arguments(1, B, H))
  if from_table:
    table = np.random.default_rng(0).normal(size=(5, 3 * H)).astype('float32')
    x = [Lookup(tf.constant(table), tf.range(B) % 5)]
  U, factors = normalization.centre(U, [2 * H, H]), (0.75, 1.25)
  step = kernels.fixed_gru(U, gain, bias, factors)
  got = tf.function(lambda state: step(x[0], state), jit_compile=True)(state)
  layer = Recurrence(cells.GRU, 'separate')
  want = layer.step(x[0], state, layer.split(Weights(U, gain, bias)), factors)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@needs_kernels
def test_runs_twice_to_the_same_bits(instruction_set):
  given, masks = arguments(30, 16, 24), masks_of(30, 16, 24, True)
  first, second = (outputs_and_gradients(given, masks, tf.float32, NativeBackend()) for _ in range(2))
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


@needs_kernels
def test_gradients_of_matrices_are_the_same_for_any_number_of_threads(instruction_set, monkeypatch):
  """Threads share the rows of such a gradient. None sums a matrix of its own, which would take memory for each."""
  given, masks = arguments(40, 10, 24), masks_of(40, 10, 24, True)
  a, b = (tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32) for shape in ((600, 24), (24, 50)))

  def product_gradient(b):
    with tf.GradientTape() as tape:
      tape.watch(b)
      loss = tf.reduce_sum(tf.square(kernels.matmul(a, b)))
    return tape.gradient(loss, b)

  found = []
  for threads in 1, 3:
    monkeypatch.setattr(runtime, 'threads', lambda threads=threads: threads)
    *_, dU, _, _ = outputs_and_gradients(given, masks, tf.float32, NativeBackend())
    found.append((dU, tf.function(product_gradient, jit_compile=True, autograph=False)(b).numpy()))
  for one, three in zip(*found, strict=True):
    np.testing.assert_array_equal(one, three)


@needs_kernels
def test_extreme_inputs_stay_finite(instruction_set):
  x, *given = arguments(3, 2, 8)
  got = outputs_and_gradients([1e4 * x, *given], masks_of(3, 2, 8, False), tf.float32, NativeBackend())
  assert all(np.isfinite(a).all() for a in got)


@needs_kernels
def test_not_a_number_is_not_hidden(instruction_set):
  x, *given = arguments(3, 2, 8)
  x[1, 1, 3] = np.nan
  outputs, *_ = outputs_and_gradients([x, *given], masks_of(3, 2, 8, False), tf.float32, NativeBackend())
  assert np.isnan(outputs[1:, 1]).any() and np.isfinite(outputs[:, 0]).all()


@needs_kernels
def test_callers_at_the_same_time(monkeypatch):
  """Two replicas call from threads of their own; one of them finds the kernels' threads at work."""
  random = np.random.default_rng(0)
  a, b = (tf.constant(random.normal(size=shape), tf.float32) for shape in ((64, 96), (96, 50)))
  calls = []
  for threads in 1, 3, 5:
    monkeypatch.setattr(runtime, 'threads', lambda threads=threads: threads)
    calls.append(tf.function(lambda a, b: kernels.matmul(a, b), jit_compile=True).get_concrete_function(a, b))
  want = calls[0](a, b).numpy()
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    results = list(pool.map(lambda i: calls[i % 3](a, b).numpy(), range(600)))
  for got in results:
    np.testing.assert_array_equal(got, want)


@pytest.mark.skipif(sys.platform != 'linux' or not shutil.which('g++') or 'TEST_SRCDIR' in os.environ,
                    reason='no compiler, or Bazel, which does not run setup.py')
def test_kernels_are_there_where_they_can_be_built():
  assert not PROBLEM
