"""The gate arithmetic: equations at chosen points, and backward against autodiff of forward."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import references
from charlm.network import cells
from flags.network import ModelConfig


def test_the_flag_knows_the_cells():
  assert ModelConfig.__dataclass_fields__['cell'].metadata['choices'] == list(cells.CELLS)


@pytest.mark.parametrize('name', cells.CELLS)
def test_cells_name_flags_that_there_are(name):
  cell, flags = cells.CELLS[name], {f.name for f in dataclasses.fields(ModelConfig)}
  assert len(cell.biases) == sum(cell.groups)
  assert {*cell.masks, *cell.biases} - {''} <= flags


@pytest.mark.parametrize('name, own', [('gru', 1), ('lstm', 0), ('lstm', 2)])
@pytest.mark.parametrize('batch, units', [(1, 1), (3, 5)])
@pytest.mark.parametrize('masked', [False, True])
def test_backward_agrees_with_autodiff(name, own, batch, units, masked):
  cell, random = cells.CELLS[name], np.random.default_rng(batch)

  def draw(*shape):
    return tf.constant(random.normal(size=shape))

  def maps():
    return [draw(batch, units) for _ in range(sum(cell.groups))]

  def state():
    return draw(batch, units) if cell.states == 1 else tuple(draw(batch, units) for _ in range(cell.states))

  weights = draw(units) if name == 'gru' else tuple(draw(units) for _ in range(own))
  x, a, before, arriving = maps(), maps(), state(), state()
  factors = [tf.constant(random.random((batch, units))) for _ in cell.masks] if masked else [1.0] * len(cell.masks)
  with tf.GradientTape() as tape:
    given = x, a, before, weights
    tape.watch(tf.nest.flatten(given))
    after, activations = cell.forward(x, a, before, weights, factors)
    tf.nest.assert_same_structure(after, before)
    loss = tf.add_n([tf.reduce_sum(s * d) for s, d in zip(*map(tf.nest.flatten, (after, arriving)), strict=True)])
  assert len(activations) == cell.saved
  wanted = tape.gradient(loss, tf.nest.flatten(given), unconnected_gradients='zero')
  *got, down = cell.backward(arriving, activations, a, before, weights, factors)
  tf.nest.assert_same_structure(got[2], before)
  down = tf.nest.map_structure(lambda d: tf.reduce_sum(d, 0), down)
  for gradient, want in zip(tf.nest.flatten((got, down)), wanted, strict=True):
    np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-11)


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


def lstm(i, f, g, o, *, c, factors=(1.0, 1.0, 1.0)):
  """One unit of the LSTM, its input's maps given, the output before it 0.3 -> output, cell."""
  x = [tf.constant([[m]], tf.float64) for m in (i, f, g, o)]
  state = tuple(tf.constant([[s]], tf.float64) for s in (0.3, c))
  after, _ = cells.LSTM.forward(x, [tf.zeros([1, 1], tf.float64)] * 4, state, (), factors)
  return [float(s[0, 0]) for s in after]


def test_lstm_with_open_forget_gate_keeps_its_cell():
  assert lstm(-100.0, 100.0, 2.0, 100.0, c=0.7) == pytest.approx([np.tanh(0.7), 0.7])


def test_lstm_with_closed_forget_gate_takes_the_candidate():
  assert lstm(100.0, -100.0, 2.0, 0.1, c=0.7) == pytest.approx(
      [references.sigmoid(0.1) * np.tanh(np.tanh(2.0)), np.tanh(2.0)])


def test_output_of_an_lstm_is_made_of_the_cell_before_zoneout():
  assert lstm(100.0, -100.0, 2.0, 100.0, c=0.7, factors=(0.0, 1.0, 1.0)) == pytest.approx([np.tanh(np.tanh(2.0)), 0.7])
  assert lstm(100.0, -100.0, 2.0, 100.0, c=0.7, factors=(1.0, 1.0, 0.0)) == pytest.approx([0.3, np.tanh(2.0)])
