"""Products and layers by native CPU kernels, inside jit-compiled functions with static shapes.

They have float32 products, linear maps with layer norm, and the GRU with layer norm on each input. XLA does the rest.
"""
import dataclasses
from typing import Any

import tensorflow as tf

from charlm.network import recurrence
from charlm.network.backend import base, kernels
from charlm.network.backend.xla import XlaBackend
from charlm.network.cells import Cell


@dataclasses.dataclass(frozen=True)
class NativeBackend:
  """differentiable: whether the kernels keep what a gradient needs."""
  differentiable: bool = True

  def matmul(self, b: tf.Tensor) -> base.Linear:
    """As `Backend.matmul`."""
    return lambda a: kernels.matmul(a, b)

  def linear(self, weights: base.LinearWeights) -> base.Linear:
    """As `Backend.linear`."""
    if weights.norm != 'separate':
      return XlaBackend().linear(weights)

    def call(x: tf.Tensor) -> tf.Tensor:
      return kernels.linear_map(x, weights.kernel, weights.gain, weights.bias, weights.groups,
                               differentiable=self.differentiable)

    return lambda x: base.over_rows(call, x)

  def recurrent(self, cell: Cell, norm: str, weights: recurrence.Weights, masks: base.Masks) -> base.Recurrent:
    """As `Backend.recurrent`. Where documents start inside a chunk XLA computes it."""
    U = recurrence.Recurrence(cell, norm).centred(weights.U)

    def layer(x: Any, state: Any, resets: recurrence.Resets | None = None) -> tuple[tf.Tensor, Any]:
      if resets:
        return XlaBackend().recurrent(cell, norm, weights, masks)(x, state, resets)
      states = kernels.gru(x, state, U, weights.gain, weights.cell, masks(base.layer_shape(x, weights)),
                          differentiable=self.differentiable)
      return states, states

    return layer

  def stepping(self) -> 'NativeStepping':
    """As `Backend.stepping`."""
    return NativeStepping(differentiable=False)

  def forward_only(self) -> 'NativeBackend':
    """As `Backend.forward_only`."""
    return NativeBackend(differentiable=False)


class NativeStepping(NativeBackend):
  """Token by token, for few rows: the weights are packed here, once. It has no gradient."""

  def matmul(self, b: tf.Tensor) -> base.Linear:
    """As `Backend.matmul`."""
    return kernels.fixed_product(b)

  def linear(self, weights: base.LinearWeights) -> base.Linear:
    """As `Backend.linear`, of x [B, n]."""
    if weights.norm != 'separate':
      return XlaBackend().stepping().linear(weights)
    return kernels.fixed_map(weights.kernel, weights.gain, weights.bias, weights.groups)

  def recurrent(self, cell: Cell, norm: str, weights: recurrence.Weights, masks: base.Masks) -> base.Recurrent:
    """As `Backend.recurrent`, of one token."""
    U = recurrence.Recurrence(cell, norm).centred(weights.U)
    read = kernels.fixed_gru(U, weights.gain, weights.cell, [mask.scale for mask in masks((1, 1, 1))])

    def step(x: Any, state: Any, resets: recurrence.Resets | None = None) -> tuple[tf.Tensor, Any]:
      assert resets is None, 'a single token is read from the state that is given'
      state = read(x, state)
      return state, state

    return step
