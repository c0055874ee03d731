"""Gate arithmetic of gated recurrent cells, forward and backward: no loops, no matrix products.

A new cell is a `Cell`: `recurrence.py` does the rest (time loop, matrix products, layer norm, gradient). Every
cell has maps of H units side by side in one weight matrix U [H, kH]; layer norm takes them in groups that
follow one another (GRU: both gates as one group of 2H, the candidate as one of H). A state is a nest of
tensors [B, H] whose first is the output (GRU: h; an LSTM's is (h, c)).

A mask on gates or candidate (zoneout, recurrent dropout) belongs in `forward` and `backward`, read for each token
as x is.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Cell(NamedTuple):
  """One gated cell; x and a are the input's and the state's maps, normalised, gain included.

  groups: (H) -> sizes of the normalised groups, summing to kH.
  saved: how many tensors [B, H] of `forward` the gradient needs.
  forward: (x [B, kH], a, state, bias) -> next state, tuple of `saved` activations. a: one tensor a group.
  backward: (dstate, activations, a, state, bias) -> dx, da, dstate, dbias: the gradient of the next state, and
    the step's arguments -> gradients of x, a (one tensor a group each), of the state other than through a,
    and of bias (its structure, rows not yet summed: [B, ..]).
  """
  groups: Callable
  saved: int
  forward: Callable
  backward: Callable


def gru_forward(x, a, h, bias):
  """One token of the layer-norm GRU (Ba, Kiros, Hinton 2016, supplement); reset after the product:

      r, z = sigmoid(x_g + a_g)               x_g = LN(W_g x; alpha_xg) + beta_g,  a_g = LN(U_g h; alpha_hg)
      c    = tanh(x_c + r (a_c + bias))       x_c = LN(W_c x; alpha_xc) + beta_c,  a_c = LN(U_c h; alpha_hc)
      h'   = h + z (c - h)

  z = 0 keeps the old state. x [B, 3H] = (r, z, c), a = ([B, 2H], [B, H]), h [B, H], bias = beta_hc [H].
  """
  a_gates, a_c = a
  units = bias.shape[0]
  gates = tf.sigmoid(x[:, :2 * units] + a_gates)
  r, z = gates[:, :units], gates[:, units:]
  c = tf.tanh(x[:, 2 * units:] + r * (a_c + bias))
  return h + z * (c - h), (r, z, c)


def gru_backward(dh, activations, a, h, bias):
  """The gradient of `gru_forward`."""
  r, z, c = activations
  dz = dh * (c - h) * z * (1 - z)
  dc = dh * z * (1 - c * c)
  dr = dc * (a[1] + bias) * r * (1 - r)
  dgates, da_c = tf.concat([dr, dz], -1), dc * r
  return (dgates, dc), (dgates, da_c), dh * (1 - z), da_c


GRU = Cell(groups=lambda units: (2 * units, units), saved=3, forward=gru_forward, backward=gru_backward)
