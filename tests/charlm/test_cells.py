"""The gate arithmetic: equations at chosen points, and backward against autodiff of forward."""
import numpy as np
import pytest
import tensorflow as tf

import references
from charlm import cells

CELLS = {'gru': cells.GRU}


@pytest.mark.parametrize('name', CELLS)
@pytest.mark.parametrize('batch, units', [(1, 1), (3, 5)])
def test_backward_agrees_with_autodiff(name, batch, units):
  cell, random = CELLS[name], np.random.default_rng(batch)

  def draw(*shape):
    return tf.constant(random.normal(size=shape))

  def maps():
    return [draw(batch, units) for _ in range(sum(cell.groups))]

  x, a, state, bias = maps(), maps(), draw(batch, units), draw(units)
  arriving = draw(batch, units)
  with tf.GradientTape() as tape:
    tape.watch([x, a, state, bias])
    after, activations = cell.forward(x, a, state, bias)
    loss = tf.reduce_sum(after * arriving)
  assert len(activations) == cell.saved
  want_x, want_a, want_state, want_bias = tape.gradient(loss, [x, a, state, bias])
  dx, da, dstate, dbias = cell.backward(arriving, activations, a, state, bias)
  for got, want in zip([*dx, *da], [*want_x, *want_a], strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
  np.testing.assert_allclose(dstate, want_state, rtol=1e-10, atol=1e-12)
  np.testing.assert_allclose(tf.reduce_sum(dbias, 0), want_bias, rtol=1e-10, atol=1e-12)


def gru(r, z, c, *, h, a_c=0.0, bias=0.0):
  """One unit of the GRU, its input's maps r, z, c and its candidate's recurrent map a_c given."""
  x, a = ([tf.constant([[m]], tf.float64) for m in maps] for maps in ((r, z, c), (0.0, 0.0, a_c)))
  after, _ = cells.GRU.forward(x, a, tf.constant([[h]], tf.float64), tf.constant([bias], tf.float64))
  return float(after[0, 0])


def test_gru_with_a_closed_update_gate_keeps_its_state():
  assert gru(0.3, -100.0, 2.0, h=0.7) == pytest.approx(0.7)


def test_gru_with_an_open_update_gate_takes_the_candidate():
  assert gru(-100.0, 100.0, 0.5, h=0.7, a_c=3.0, bias=2.0) == pytest.approx(np.tanh(0.5))


def test_gru_resets_the_product_and_its_bias():
  assert gru(0.2, 100.0, 0.5, h=0.7, a_c=0.3, bias=0.4) == pytest.approx(
      np.tanh(0.5 + references.sigmoid(0.2) * 0.7))
