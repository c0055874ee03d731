"""What a backend does for a model.

Each method takes weights, prepares them, and returns a function of what they are applied to. So the same forward pass
runs over a chunk, where the weights are prepared for each pass, and token by token, where `stepping` prepares them once
for all tokens.
"""
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from charlm.network.cells import Cell, Mask
from charlm.network.recurrence import Lookup, Resets, Weights


class LinearWeights(NamedTuple):
  """A linear map, in one of three kinds by its `norm`.

  separate: x [.., n] -> LN(x W; gain) + bias [.., sum(groups)], the layer norm by groups. none: x W + bias. joint: x W
  alone; layer norm, gain and bias come where it has been added to others. W is centred where there is layer norm.
  """
  norm: str
  groups: tuple[int, ...]  # columns that layer norm takes together
  kernel: tf.Tensor  # W [n, sum(groups)]
  gain: tf.Tensor | None
  bias: tf.Tensor | None


Linear = Callable[[tf.Tensor], tf.Tensor]
# (projections, state, Resets or None) -> outputs, states after each token
Recurrent = Callable[[Any, Any, Resets | None], tuple[tf.Tensor, Any]]
# (T, B, H) -> the masks of a cell
Masks = Callable[[tuple[int, int, int]], Sequence[Mask]]


class Backend(Protocol):
  """Computes products and layers."""

  def matmul(self, b: tf.Tensor) -> Linear:
    """b [m, k] -> a function: a [n, m] -> a b [n, k]."""

  def linear(self, weights: LinearWeights) -> Linear:
    """-> the linear map of x [.., n]."""

  def recurrent(self, cell: Cell, norm: str, weights: Weights, masks: Masks) -> Recurrent:
    """-> the recurrent layer. Tensors of projections and outputs are [T, B, ..], or [B, ..] where it is stepping."""

  def stepping(self) -> 'Backend':
    """The backend for tokens that come one by one, with weights that stay as they are."""

  def forward_only(self) -> 'Backend':
    """The backend for passes whose gradient will not be taken, which keeps nothing for it."""


def over_rows(function: Linear, x: tf.Tensor) -> tf.Tensor:
  """A function of [n, m] applied to x [.., m]: one large product is faster than a batch of small ones."""
  if x.shape.rank == 2:
    return function(x)
  y = function(tf.reshape(x, [-1, x.shape[-1]]))
  return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0))


def layer_shape(x: Any, weights: Weights) -> tuple[int, int, int]:
  """Projections [T, B, kH] -> (T, B, H)."""
  steps, rows = (x.ids if isinstance(x, Lookup) else x).shape[:2]
  return steps, rows, weights.U.shape[0]
