"""Gate arithmetic of gated recurrent cells: elementwise, no loops, no matrix products.

A `Cell` is all that `recurrence.py` needs to know. Its functions work on one token [B, ·] and on all tokens
at once [T, B, ·]: the last axis alone has a meaning. k is the number of maps of a cell (GRU: 3), H its units.
A state is a nest of tensors whose first one is the cell's output (GRU: h; an LSTM's would be (h, c)).
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Cell(NamedTuple):
  """One gated cell.

  groups: units -> sizes of the normalised groups of its k·H recurrent maps.
  forward: (x, a, state, bias) -> next state. x [.., kH] is the input's share, a [.., kH] the recurrent one.
  linearise: (x, a, state, bias) -> `Jacobian` of that step, from the state before it.
  spread: gradient of the next state -> [.., kH], what the factors of `Jacobian` multiply.
  backward: (gradient of the next state, keep) -> gradient of the state, less the share through a.
  bias_gradient: (gradient of a [T, B, kH]) -> gradient of bias.
  """
  groups: Callable
  forward: Callable
  linearise: Callable
  spread: Callable
  backward: Callable
  bias_gradient: Callable


class Jacobian(NamedTuple):
  """Derivatives of one step, none of which depends on the gradient that arrives.

  x, a: [.., kH] factors that turn spread(gradient of the next state) into the gradients of x and a.
  keep: nest of factors for `Cell.backward`.
  """
  x: tf.Tensor
  a: tf.Tensor
  keep: tf.Tensor


def _gru_gates(x, a, bias):
  """-> r, z, c and the candidate's recurrent share, each [.., H]."""
  x_r, x_z, x_c = tf.split(x, 3, -1)
  a_r, a_z, a_c = tf.split(a, 3, -1)
  r, z = tf.sigmoid(x_r + a_r), tf.sigmoid(x_z + a_z)
  a_c += bias
  return r, z, tf.tanh(x_c + r * a_c), a_c


def _gru_forward(x, a, h, bias):
  _, z, c, _ = _gru_gates(x, a, bias)
  return h + z * (c - h)


def _gru_linearise(x, a, h, bias):
  r, z, c, a_c = _gru_gates(x, a, bias)
  by_c = z * (1 - c * c)
  by_r = by_c * a_c * r * (1 - r)
  by_z = (c - h) * z * (1 - z)
  return Jacobian(x=tf.concat([by_r, by_z, by_c], -1), a=tf.concat([by_r, by_z, by_c * r], -1), keep=1 - z)


GRU = Cell(
    groups=lambda units: (2 * units, units),
    forward=_gru_forward,
    linearise=_gru_linearise,
    spread=lambda dh: tf.concat([dh, dh, dh], -1),
    backward=lambda dh, keep: dh * keep,
    bias_gradient=lambda da: tf.reduce_sum(tf.split(da, 3, -1)[2], [0, 1]))
GRU_EQUATIONS = """Layer-norm GRU (Ba, Kiros, Hinton 2016, supplement)."""
