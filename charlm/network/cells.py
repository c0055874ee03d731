"""Gate arithmetic of gated recurrent cells, forward and backward: no loops, no matrix products.

A new cell is a `Cell` in `CELLS`: `recurrence.py` has the time loop and the gradient, `layers.py` makes the weights. A
cell has k gates of H units, the candidate counted as one of them. Their weights stand side by side in one recurrent
matrix U [H, kH]. Layer norm takes the gates in groups that follow one another (GRU: r and z as one group of 2H, the
candidate as one of H; LSTM: all four). A state is one tensor [B, H], which is also the output (GRU: h), or a tuple of
tensors whose first is the output (LSTM: (h, c)).

Each gate is a tensor [B, H] of its own. XLA on a CPU does not vectorise arithmetic on slices of what a loop reads:
with one tensor [B, kH] a step took twice as long.

A mask scales a gate, the candidate or a change of the state: units that are not kept count 0, the others `scale`.
Zoneout (Krueger et al. 2017) lets a unit keep its old value: in the GRU by a mask on the update gate, in the LSTM by
one for the cell and one for the output. Recurrent dropout (Semeniuta et al. 2016) is a mask on the candidate.
"""
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.network.normalization import EPSILON, Gates
from flags.network import ModelConfig


class Mask(NamedTuple):
  """keep: [T, B, H] bool, or None where all units are kept. scale: what those kept are multiplied with."""
  keep: tf.Tensor | None = None
  scale: float = 1.0


class Cell(NamedTuple):
  """A gated cell. x and a are the projections of input and state, normalised, gain included: k tensors [B, H] each.

  Attributes:
    groups: how many gates each group of layer norm has, summing to k.
    states: how many tensors its state has.
    saved: how many tensors [B, H] of `forward` the gradient needs.
    masks: the flag that each of its masks is drawn by.
    biases: the flag that gives the first bias of each gate, '' for 0.
    initial_weights: configuration -> first values of its weights beside the projections, a nest of numbers, each for a
      weight [H].
    forward: (x, a, state, cell_weights, factors) -> next state, tuple of `saved` activations. factors: those of the
      masks, each [B, H] or a number.
    backward: (dstate, activations, a, state, cell_weights, factors) -> dx, da, dstate, dcell_weights. Takes the
      gradient of the next state; returns those of x and a (k tensors each), of the state other than through a, and of
      the cell's weights (same structure, not yet summed over rows: [B, H]).
  """
  groups: tuple[int, ...]
  states: int
  saved: int
  masks: tuple[str, ...]
  biases: tuple[str, ...]
  initial_weights: Callable[[ModelConfig], Any]
  forward: Callable[..., Any]
  backward: Callable[..., Any]


def sigmoid(x: tf.Tensor) -> tf.Tensor:
  """By tanh, which XLA computes in about half the time of exp and a division."""
  return 0.5 * tf.tanh(0.5 * x) + 0.5


def gru_forward(x: Gates, a: Gates, h: tf.Tensor, bias: tf.Tensor,
                factors: Sequence[Any] = (1.0, 1.0)) -> tuple[Any, tuple]:
  """One token of the GRU with layer norm (Ba, Kiros, Hinton 2016, supplement) or without; reset after the product:

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


def gru_backward(dh: tf.Tensor, activations: tuple, a: Gates, h: tf.Tensor, bias: tf.Tensor,
                 factors: Sequence[Any] = (1.0, 1.0)) -> tuple[tuple, tuple, Any, Any]:
  """The gradient of `gru_forward`."""
  r, z, c = activations
  m_z, m_c = factors
  dz = dh * (m_c * c - h) * m_z * z * (1 - z)
  dc = dh * m_z * z * m_c * (1 - c * c)
  dr = dc * (a[2] + bias) * r * (1 - r)
  da_c = dc * r
  return (dr, dz, dc), (dr, dz, da_c), dh * (1 - m_z * z), da_c


def _cell_norm(c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """c [B, H] -> mean 0 and variance 1 over the units, and the factor [B, 1] that did it."""
  centred = c - tf.reduce_mean(c, -1, keepdims=True)
  inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + EPSILON)
  return centred * inverse, inverse


def _moved(old: tf.Tensor, new: tf.Tensor, share: Any) -> tf.Tensor:
  """This share of the way from the old value to the new."""
  return new if isinstance(share, float) and share == 1 else old + share * (new - old)


def lstm_forward(x: Gates, a: Gates, state: tuple, norm: tuple,
                 factors: Sequence[Any] = (1.0, 1.0, 1.0)) -> tuple[Any, tuple]:
  """One token of the LSTM with layer norm (Ba, Kiros, Hinton 2016, supplement) or without:

      i, f, o = sigmoid(x_g + a_g)            x = LN(W x; alpha_x) + beta,  a = LN(U h; alpha_h)
      g    = tanh(x_c + a_c)
      c^   = f c + m_g i g                    m_g, m_c, m_h: factors
      h^   = o tanh(LN(c^; norm))             norm = (gain, bias), each [H]; () without layer norm on the cell
      c'   = c + m_c (c^ - c)
      h'   = h + m_h (h^ - h)

  The output is made of the cell before zoneout, c^. x and a in the order (i, f, g, o), state = (h, c), factors in the
  order (m_c, m_g, m_h).
  """
  h, c = state
  i, f, o = (sigmoid(x[k] + a[k]) for k in (0, 1, 3))
  g = tf.tanh(x[2] + a[2])
  m_c, m_g, m_h = factors
  full = f * c + m_g * i * g
  t = tf.tanh(_cell_norm(full)[0] * norm[0] + norm[1] if norm else full)
  return (_moved(h, o * t, m_h), _moved(c, full, m_c)), (i, f, g, o, t)


def lstm_backward(dstate: tuple, activations: tuple, a: Gates, state: tuple, norm: tuple,
                  factors: Sequence[Any] = (1.0, 1.0, 1.0)) -> tuple[tuple, tuple, Any, Any]:
  """The gradient of `lstm_forward`."""
  (dh, dc), (_, c), (i, f, g, o, t), (m_c, m_g, m_h) = dstate, state, activations, factors
  dfull = dt = m_h * dh * o * (1 - t * t)
  dnorm: tuple = ()
  if norm:
    n, inverse = _cell_norm(f * c + m_g * i * g)
    dnorm = (dt * n, dt)
    dn = dt * norm[0]
    dn_mean, slope = (tf.reduce_mean(d, -1, keepdims=True) for d in (dn, dn * n))
    dfull = inverse * (dn - dn_mean - n * slope)
  dfull += m_c * dc
  d = (dfull * m_g * g * i * (1 - i), dfull * c * f * (1 - f), dfull * m_g * i * (1 - g * g),
       m_h * dh * t * o * (1 - o))
  return d, d, ((1 - m_h) * dh, (1 - m_c) * dc + f * dfull), dnorm


GRU = Cell(groups=(2, 1), states=1, saved=3, masks=('zoneout', 'recurrent_dropout'),
           biases=('reset_bias', 'update_bias', ''), initial_weights=lambda config: 0.0, forward=gru_forward,
           backward=gru_backward)
LSTM = Cell(groups=(4,), states=2, saved=5, masks=('zoneout', 'recurrent_dropout', 'zoneout_output'),
            biases=('', 'forget_bias', '', ''), initial_weights=lambda config: (1.0, 0.0) if config.cell_norm else (),
            forward=lstm_forward, backward=lstm_backward)
CELLS: dict[str, Cell] = {'gru': GRU, 'lstm': LSTM}
