"""Products and layers in TensorFlow's own operations, which run anywhere and which XLA compiles."""
import dataclasses
from typing import Any

import tensorflow as tf

from charlm.network import recurrence
from charlm.network.backend import base
from charlm.network.cells import Cell
from charlm.network.normalization import layer_norm


@dataclasses.dataclass(frozen=True)
class XlaBackend:
  """Runs anywhere, but for TPU, whose form only XLA can compile.

  Attributes:
    compute_dtype: of --compute_dtype; sums stay float32. `choice.choose` sets what sets full_float32 apart.
    platform: what the recurrent layers are written for, a key of recurrence.FORMS.
  """
  compute_dtype: str = 'float32'
  platform: str = 'CPU'

  def product(self, a: tf.Tensor, b: tf.Tensor, **options: Any) -> tf.Tensor:
    """tf.matmul of a and b, rounded to bfloat16 where `compute_dtype` says so, in the type of a."""
    if self.compute_dtype != 'bfloat16':
      return tf.matmul(a, b, **options)
    a_rounded, b_rounded = (tf.cast(x, tf.bfloat16) for x in (a, b))
    return tf.cast(tf.matmul(a_rounded, b_rounded, **options), a.dtype)

  def matmul(self, b: tf.Tensor) -> base.Linear:
    """As `Backend.matmul`."""
    return lambda a: self.product(a, b)

  def linear(self, weights: base.LinearWeights) -> base.Linear:
    """As `Backend.linear`."""
    def call(x: tf.Tensor) -> tf.Tensor:
      y = self.product(x, weights.kernel)
      if weights.norm == 'separate':
        return layer_norm(y, weights.gain, weights.bias, weights.groups)
      return y + weights.bias if weights.norm == 'none' else y

    return lambda x: base.over_rows(call, x)

  def recurrent(self, cell: Cell, norm: str, weights: recurrence.Weights, masks: base.Masks) -> base.Recurrent:
    """As `Backend.recurrent`."""
    layer = recurrence.Recurrence(cell, norm, self.product, recurrence.FORMS[self.platform])
    weights = weights._replace(U=layer.centred(weights.U))

    def read(x: Any, state: Any, resets: recurrence.Resets | None = None) -> tuple[tf.Tensor, Any]:
      return layer(x, state, weights, masks(base.layer_shape(x, weights)), resets)

    return read

  def stepping(self) -> 'XlaStepping':
    """As `Backend.stepping`."""
    return XlaStepping(self.compute_dtype)

  def forward_only(self) -> 'XlaBackend':
    """Itself: what nobody reads is left out when the program is compiled."""
    return self


class XlaStepping(XlaBackend):
  """Token by token: x and state [B, ..]."""

  def recurrent(self, cell: Cell, norm: str, weights: recurrence.Weights, masks: base.Masks) -> base.Recurrent:
    """As `Backend.recurrent`, of one token."""
    layer = recurrence.Recurrence(cell, norm, self.product)
    weights = self.kept(layer.split(weights._replace(U=layer.centred(weights.U))))
    factors = [mask.scale for mask in masks((1, 1, 1))]

    def step(x: Any, state: Any, resets: recurrence.Resets | None = None) -> tuple[tf.Tensor, Any]:
      assert resets is None, 'a single token is read from the state that is given'
      state = layer.step(x, state, weights, factors)
      return tf.nest.flatten(state)[0], state

    return step

  def kept(self, weights: recurrence.Weights) -> recurrence.Weights:
    """Prepared weights as they are held from token to token."""
    return weights
