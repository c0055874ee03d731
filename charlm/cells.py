"""Gate arithmetic of gated recurrent cells, forward and backward: no loops, no matrix products.

A new cell is a `Cell`: `recurrence.py` does the rest (time loop, matrix products, layer norm, gradient). Every
cell has k maps of H units side by side in one weight matrix U [H, kH]; layer norm takes them in groups that
follow one another (GRU: both gates as one group of 2H, the candidate as one of H). A state is a nest of
tensors [B, H] whose first is the output (GRU: h; an LSTM's is (h, c)).

Each map is a tensor [B, H] of its own. XLA on a CPU does not vectorise arithmetic on slices of what a loop reads:
with one tensor [B, kH] a step took twice as long.

A mask on gates or candidate (zoneout, recurrent dropout) belongs in `forward` and `backward`, read for each token
as x is.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Cell(NamedTuple):
  """One gated cell; x and a are the input's and the state's maps, normalised, gain included.

  groups: how many maps each normalised group has, summing to k.
  saved: how many tensors [B, H] of `forward` the gradient needs.
  forward: (x, a, state, bias) -> next state, tuple of `saved` activations. x, a: k tensors [B, H].
  backward: (dstate, activations, a, state, bias) -> dx, da, dstate, dbias: the gradient of the next state, and
    the step's arguments -> gradients of x, a (k tensors each), of the state other than through a, and of bias
    (its structure, rows not yet summed: [B, ..]).
  """
  groups: tuple
  saved: int
  forward: Callable
  backward: Callable


def sigmoid(x):
  """By tanh, which XLA computes in about half the time of exp and a division."""
  return 0.5 * tf.tanh(0.5 * x) + 0.5


def gru_forward(x, a, h, bias):
  """One token of the layer-norm GRU (Ba, Kiros, Hinton 2016, supplement); reset after the product:

      r, z = sigmoid(x_g + a_g)               x_g = LN(W_g x; alpha_xg) + beta_g,  a_g = LN(U_g h; alpha_hg)
      c    = tanh(x_c + r (a_c + bias))       x_c = LN(W_c x; alpha_xc) + beta_c,  a_c = LN(U_c h; alpha_hc)
      h'   = h + z (c - h)

  z = 0 keeps the old state. x and a in the order (r, z, c), h [B, H], bias = beta_hc [H].
  """
  x_r, x_z, x_c = x
  a_r, a_z, a_c = a
  r, z = sigmoid(x_r + a_r), sigmoid(x_z + a_z)
  c = tf.tanh(x_c + r * (a_c + bias))
  return h + z * (c - h), (r, z, c)


def gru_backward(dh, activations, a, h, bias):
  """The gradient of `gru_forward`."""
  r, z, c = activations
  dz = dh * (c - h) * z * (1 - z)
  dc = dh * z * (1 - c * c)
  dr = dc * (a[2] + bias) * r * (1 - r)
  da_c = dc * r
  return (dr, dz, dc), (dr, dz, da_c), dh * (1 - z), da_c


GRU = Cell(groups=(2, 1), saved=3, forward=gru_forward, backward=gru_backward)
