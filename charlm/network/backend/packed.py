"""Products and layers in core operations, for tokens that come one by one and for texts of different lengths.

The texts lie side by side, packed without padding, the longest first and all first tokens first:

    a b c d
    e f           packed  a e g | b f | c | d       counts 3 2 1 1       offsets 0 3 5 6
    g

A row that has ended leaves the loop over tokens. What does not depend on the state is one product over all tokens.
"""
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.network.backend import base
from charlm.network.backend.xla import XlaStepping
from charlm.network.cells import Cell
from charlm.network.recurrence import Lookup, Resets, Weights


class Packing(NamedTuple):
  """Where the tokens of packed texts lie."""
  counts: tf.Tensor  # [T] int32: how many texts have a token t; it never rises
  offsets: tf.Tensor  # [T] int32: where the tokens t begin


@dataclasses.dataclass(frozen=True)
class PackedStepping(XlaStepping):
  """As `XlaStepping`; with a `Packing`, x [N, kH] of packed texts and the state [B, H] before them, longest first.

  Attributes:
    hold: what holds a prepared weight: a variable, for a graph that is written to a file.
  """
  hold: Callable[[tf.Tensor], Any] = tf.convert_to_tensor

  def matmul(self, b: tf.Tensor) -> base.Linear:
    """As `Backend.matmul`."""
    return super().matmul(self._matrix(b))

  def linear(self, weights: base.LinearWeights) -> base.Linear:
    """As `Backend.linear`."""
    gain, bias = (None if w is None else self.hold(w) for w in (weights.gain, weights.bias))
    return super().linear(weights._replace(kernel=self._matrix(weights.kernel), gain=gain, bias=bias))

  def kept(self, weights: Weights) -> Weights:
    """As `XlaStepping.kept`."""
    return Weights(self._matrix(weights.U), *tf.nest.map_structure(self.hold, weights[1:]))

  def _matrix(self, b: tf.Tensor) -> Any:
    """Rounded once, and not in each product."""
    return self.hold(tf.cast(b, tf.bfloat16) if self.compute_dtype == 'bfloat16' else b)

  def recurrent(self, cell: Cell, norm: str, weights: Weights, masks: base.Masks) -> base.Recurrent:
    """As `Backend.recurrent`, but `packing`, where it is given, says that x is packed: states after each, [N, H]."""
    step = super().recurrent(cell, norm, weights, masks)

    def read(x: Any, state: Any, resets: Resets | None = None, packing: Packing | None = None) -> tuple[tf.Tensor, Any]:
      if packing is None:
        return step(x, state, resets)
      rows, steps = x.rows() if isinstance(x, Lookup) else x, tf.size(packing.counts)
      arrays = tf.nest.map_structure(
        lambda s: tf.TensorArray(s.dtype, steps, element_shape=[None, s.shape[1]], infer_shape=False), state)

      def body(t: tf.Tensor, state: Any, arrays: Any) -> tuple:
        count, first = tf.gather(packing.counts, t), tf.gather(packing.offsets, t)
        _, state = step(rows[first:first + count], tf.nest.map_structure(lambda s: s[:count], state), None)
        return t + 1, state, tf.nest.map_structure(lambda a, s: a.write(t, s), arrays, state)

      _, _, arrays = tf.while_loop(lambda t, *_: t < steps, body, (tf.constant(0), state, arrays))
      states = tf.nest.map_structure(lambda a: a.concat(), arrays)
      return tf.nest.flatten(states)[0], states

    return read
