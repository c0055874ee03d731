"""Gate arithmetic of gated recurrent cells, forward and backward: no loops, no matrix products.

A new cell is a `Cell`: `recurrence.py` does the rest (time loop, matrix products, layer norm, gradient). Every
cell has k maps of H units side by side in one weight matrix U [H, kH]; layer norm takes them in groups that
follow one another (GRU: both gates as one group of 2H, the candidate as one of H). A state is a nest of
tensors [B, H] whose first is the output (GRU: h; an LSTM's is (h, c)).

Each map is a tensor [B, H] of its own. XLA on a CPU does not vectorise arithmetic on slices of what a loop reads:
with one tensor [B, kH] a step took twice as long.

A mask scales a gate or the candidate: numbers that are not kept count 0, the others `scale`. The GRU has two. On the
update gate it is zoneout (Krueger et al. 2017), on the candidate recurrent dropout (Semeniuta et al. 2016).
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Mask(NamedTuple):
  """kept: [T, B, H] bool, or None for all."""
  kept: tf.Tensor | None = None
  scale: float = 1.0


class Cell(NamedTuple):
  """One gated cell; x and a are the input's and the state's maps, normalised, gain included.

  groups: how many maps each normalised group has, summing to k.
  saved: how many tensors [B, H] of `forward` the gradient needs.
  masks: how many masks it takes; `factors` are theirs, each [B, H] or a number.
  forward: (x, a, state, bias, factors) -> next state, tuple of `saved` activations. x, a: k tensors [B, H].
  backward: (dstate, activations, a, state, bias, factors) -> dx, da, dstate, dbias: the gradient of the next state,
    and the step's arguments -> gradients of x, a (k tensors each), of the state other than through a, and of bias
    (its structure, rows not yet summed: [B, ..]).
  """
  groups: tuple
  saved: int
  masks: int
  forward: Callable
  backward: Callable


def sigmoid(x):
  """By tanh, which XLA computes in about half the time of exp and a division."""
  return 0.5 * tf.tanh(0.5 * x) + 0.5


def gru_forward(x, a, h, bias, factors=(1.0, 1.0)):
  """One token of the layer-norm GRU (Ba, Kiros, Hinton 2016, supplement); reset after the product:

      r, z = sigmoid(x_g + a_g)               x_g = LN(W_g x; alpha_xg) + beta_g,  a_g = LN(U_g h; alpha_hg)
      c    = tanh(x_c + r (a_c + bias))       x_c = LN(W_c x; alpha_xc) + beta_c,  a_c = LN(U_c h; alpha_hc)
      h'   = h + m_z z (m_c c - h)            m_z, m_c: factors

  z = 0 keeps the old state. x and a in the order (r, z, c), h [B, H], bias = beta_hc [H].
  """
  x_r, x_z, x_c = x
  a_r, a_z, a_c = a
  r, z = sigmoid(x_r + a_r), sigmoid(x_z + a_z)
  c = tf.tanh(x_c + r * (a_c + bias))
  m_z, m_c = factors
  return h + m_z * z * (m_c * c - h), (r, z, c)


def gru_backward(dh, activations, a, h, bias, factors=(1.0, 1.0)):
  """The gradient of `gru_forward`."""
  r, z, c = activations
  m_z, m_c = factors
  dz = dh * (m_c * c - h) * m_z * z * (1 - z)
  dc = dh * m_z * z * m_c * (1 - c * c)
  dr = dc * (a[2] + bias) * r * (1 - r)
  da_c = dc * r
  return (dr, dz, dc), (dr, dz, da_c), dh * (1 - m_z * z), da_c


GRU = Cell(groups=(2, 1), saved=3, masks=2, forward=gru_forward, backward=gru_backward)
