"""The time loop of a recurrent layer: as little as possible inside it, and a gradient written by hand.

    x = W e, normalised       one product for all tokens, made by the caller
        |
        v
    a = h U, normalised  ->  gates  ->  h        the loop: T small products
    da U^T               <-  gates  <-  dh       the gradient's loop: T small products
    dU = sum of h^T da        one product for all tokens

The forward loop saves all that its gradient needs: computing the gates again was slower (benchmarks/README.md). On a
CPU the native backend does the same faster, where its kernels are built.
"""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.network.cells import Cell, Gates, Mask
from charlm.network.normalization import NORMS, centre


class Resets(NamedTuple):
  """Tokens that are read from another state than the one before them: where documents start."""
  where: tf.Tensor  # [T, B] bool
  state: Any  # a nest of [B, H]


class Lookup(NamedTuple):
  """Projections of tokens that follow from the token's id alone: those of token t are row t of the table."""
  table: tf.Tensor  # [V, kH]
  ids: tf.Tensor  # [T, B] int32, or [B]

  def rows(self) -> tf.Tensor:
    """[T, B, kH], or [B, kH]."""
    return tf.gather(self.table, self.ids)


class Weights(NamedTuple):
  """The weights of a recurrent layer.

  Attributes:
    U: of the state's projections, [H, kH].
    gain: of its layer norm. separate: [kH], of the state's projections; joint: gain and bias of the sums, each [kH];
      none: ().
    cell: those that the cell has beside its projections, a nest of [H]; GRU: beta_hc.
  """
  U: tf.Tensor
  gain: Any
  cell: Any


def add_projections(parts: Sequence[Any]) -> Any:
  """The sum of Lookups and tensors [T, B, kH]. A single one stays what it is."""
  if len(parts) == 1:
    return parts[0]
  return tf.add_n([part.rows() if isinstance(part, Lookup) else part for part in parts])


def where_reset(reset: tf.Tensor, state: Any, other: Any) -> Any:
  """Nests of [.., B, H]: `state` where reset [.., B] is true, `other` elsewhere."""
  return tf.nest.map_structure(lambda s, o: tf.where(reset[..., None], s, o), state, other)


@dataclasses.dataclass(frozen=True)
class Recurrence:
  """A kind of recurrent layer.

  Attributes:
    cell: its gates.
    norm: where layer norm stands, a key of NORMS.
    matmul: (a, b, **options of tf.matmul) -> a b. Its gradient is never asked for.
  """
  cell: Cell
  norm: str
  matmul: Callable[..., tf.Tensor] = tf.matmul

  def centred(self, U: tf.Tensor) -> tf.Tensor:
    """U [H, kH] as the products take it: each row's mean removed where there is layer norm."""
    return U if self.norm == 'none' else centre(U, [count * U.shape[0] for count in self.cell.groups])

  def step(self, x: Any, state: Any, weights: Weights, factors: Sequence[Any] | None = None) -> Any:
    """Reads one token.

    Args:
      x: the input's projections, [B, kH] or a Lookup.
      state: a nest of [B, H].
      weights: with U `centred`.
      factors: those of the cell's masks, each a number or [B, H]; 1 by default.

    Returns:
      The state after it.
    """
    x = x.rows() if isinstance(x, Lookup) else x
    factors = factors or [1.0] * len(self.cell.masks)
    return self._step(tf.split(x, sum(self.cell.groups), -1), state, self._split(weights), factors)[0]

  def __call__(self, x: Any, state: Any, weights: Weights, masks: Sequence[Mask] | None = None,
               resets: Resets | None = None) -> tuple[tf.Tensor, Any]:
    """Reads T tokens; T and B may be unknown. Its gradient can be taken once.

    Args:
      x: the input's projections, [T, B, kH] or a Lookup. separate: normalised, gains and biases included; joint:
        products with centred weights; none: biases included.
      state: before the first token, a nest of [B, H].
      weights: with U `centred`.
      masks: one for each that the cell has; nothing is masked by default.
      resets: where documents start, if anywhere.

    Returns:
      outputs [T, B, H] and the states after each token, a nest of [T, B, H].
    """
    masks = masks or [Mask()] * len(self.cell.masks)
    x = x.rows() if isinstance(x, Lookup) else x
    given = state, weights, resets.state if resets else ()

    @tf.custom_gradient
    def layer(x: tf.Tensor, *flat: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., tuple]]:
      start, weights, other = tf.nest.pack_sequence_as(given, flat)
      inner = Resets(resets.where, other) if resets else None
      states, saved = self._forward(tf.split(x, sum(self.cell.groups), -1), start, self._split(weights), masks, inner)

      def gradient(*dstates: tf.Tensor) -> tuple:
        dstates = tf.nest.pack_sequence_as(start, dstates)
        dx, *gradients = self._backward(dstates, start, states, saved, self._split(weights), masks, inner)
        return dx, *tf.nest.flatten(gradients)

      return tf.nest.flatten(states), gradient

    states = layer(x, *tf.nest.flatten(given))
    states = [tf.ensure_shape(s, x.shape[:2] + s.shape[2:]) for s in states]  # stacking forgets a static T
    return states[0], tf.nest.pack_sequence_as(state, states)

  def _split(self, weights: Weights) -> Weights:
    """The gain of a norm becomes a list of k gains [H] for each of its weights [kH]."""
    gates = sum(self.cell.groups)
    return weights._replace(gain=[tf.split(g, gates) for g in tf.nest.flatten(weights.gain)])

  def _step(self, x: Gates, state: Any, weights: Weights, factors: Sequence[Any]) -> tuple[Any, tuple]:
    """x: k tensors. -> the next state, and what its gradient needs: (what the norm saves, activations)."""
    p = tf.split(self.matmul(tf.nest.flatten(state)[0], weights.U), len(x), -1)
    x, a, saved = NORMS[self.norm].forward(x, p, weights.gain, self.cell.groups)
    state, activations = self.cell.forward(x, a, state, weights.cell, factors)
    return state, (saved, list(activations))

  def _step_gradient(self, dstate: Any, state: Any, saved: tuple, U_transposed: tf.Tensor, weights: Weights,
                     factors: Sequence[Any]) -> tuple[list[tf.Tensor], tf.Tensor, Any, Any, Any]:
    """The gradient of `_step`: of x (k tensors), h U, state, gains and cell weights (these two [B, ..])."""
    (of_norm, activations), norm = saved, NORMS[self.norm]
    a = norm.restore(of_norm, weights.gain)
    dx, da, dbefore, dcell = self.cell.backward(dstate, activations, a, state, weights.cell, factors)
    dx, dp, dgains = norm.backward(dx, da, of_norm, weights.gain, self.cell.groups)
    dproduct = tf.concat(dp, -1)
    dh, *others = tf.nest.flatten(dbefore)
    dbefore = tf.nest.pack_sequence_as(state, [dh + self.matmul(dproduct, U_transposed), *others])
    return list(dx), dproduct, dbefore, dgains, dcell

  def _forward(self, x: Gates, state: Any, weights: Weights, masks: Sequence[Mask],
               resets: Resets | None) -> tuple[Any, tuple]:
    """-> states after each token, and what `_step` saves of each: nests of [T, B, ..]."""
    steps, units = tf.shape(x[0])[0], weights.U.shape[0]
    columns = NORMS[self.norm].sizes(len(x), len(self.cell.groups), units), [units] * self.cell.saved
    arrays = (tf.nest.map_structure(lambda s: _array(steps, s.shape[-1], s), state),
              tf.nest.map_structure(lambda size: _array(steps, size, x[0]), columns))
    xs, factors = [_unstack(g) for g in x], _factors(masks, x[0].dtype)

    def body(t: tf.Tensor, state: Any, arrays: Any) -> tuple:
      if resets:
        state = where_reset(tf.gather(resets.where, t), resets.state, state)
      state, saved = self._step(_read(xs, t), state, weights, factors(t))
      return t + 1, state, _write(arrays, t, (state, saved))

    return _stack(tf.while_loop(lambda t, *_: t < steps, body, (0, state, arrays))[2])

  def _backward(self, dstates: Any, start: Any, states: Any, saved: Any, weights: Weights, masks: Sequence[Mask],
                resets: Resets | None) -> tuple[tf.Tensor, Any, tuple, Any]:
    """-> gradients of x, start, (U, gain, cell weights), resets.state, from those of the states after each token."""
    nest = tf.nest.map_structure
    previous = _previous(start, states, resets)
    h = tf.nest.flatten(previous)[0]
    steps, batch = tf.shape(h)[0], tf.shape(h)[1]
    arrived, before, saved = nest(_unstack, (dstates, previous, saved))
    U_transposed, factors = tf.transpose(weights.U), _factors(masks, h.dtype)

    def body(t: tf.Tensor, dstate: Any, dxs: list[tf.TensorArray], dproducts: tf.TensorArray, sums: Any,
             dreset: Any) -> tuple:
      dstate = nest(tf.add, dstate, _read(arrived, t))
      dx, dproduct, dstate, *of_weights = self._step_gradient(
          dstate, _read(before, t), _read(saved, t), U_transposed, weights, factors(t))
      if resets:
        zeros, reset = nest(tf.zeros_like, dstate), tf.gather(resets.where, t)
        dreset = nest(tf.add, dreset, where_reset(reset, dstate, zeros))
        dstate = where_reset(reset, zeros, dstate)
      sums = nest(tf.add, sums, tuple(of_weights))
      return t - 1, dstate, _write(dxs, t, dx), dproducts.write(t, dproduct), sums, dreset

    sums = nest(lambda like: tf.zeros([batch, like.shape[-1]], h.dtype), (weights.gain, weights.cell))
    units, columns = weights.U.shape
    dxs = [_array(steps, units, h) for _ in range(columns // units)]
    zeros = nest(tf.zeros_like, start)
    loop = (steps - 1, zeros, dxs, _array(steps, columns, h), sums, zeros if resets else ())
    _, dstart, dxs, dproducts, sums, dreset = tf.while_loop(lambda t, *_: t >= 0, body, loop)
    dU = self.matmul(tf.reshape(h, [-1, units]), tf.reshape(dproducts.stack(), [-1, columns]), transpose_a=True)
    dgain, dcell = nest(lambda s: tf.reduce_sum(s, 0), sums)
    return tf.concat(_stack(dxs), -1), dstart, (dU, [tf.concat(g, -1) for g in dgain], dcell), dreset


def _previous(start: Any, states: Any, resets: Resets | None) -> Any:
  """The states that tokens were read from: nests of [T, B, H]."""
  previous = tf.nest.map_structure(lambda s0, s: tf.concat([s0[None], s[:-1]], 0), start, states)
  if not resets:
    return previous
  return where_reset(resets.where, tf.nest.map_structure(lambda s: s[None], resets.state), previous)


def _array(steps: tf.Tensor, columns: int, like: tf.Tensor) -> tf.TensorArray:
  """An array for a tensor [B, columns] of each token; like [.., B, any]."""
  return tf.TensorArray(like.dtype, steps, element_shape=[like.shape[-2], columns])


def _unstack(x: tf.Tensor) -> tf.TensorArray:
  return _array(tf.shape(x)[0], x.shape[-1], x).unstack(x)


def _read(arrays: Any, t: tf.Tensor) -> Any:
  return tf.nest.map_structure(lambda a: a.read(t), arrays)


def _write(arrays: Any, t: tf.Tensor, values: Any) -> Any:
  flat = [a.write(t, v) for a, v in zip(tf.nest.flatten(arrays), tf.nest.flatten(values), strict=True)]
  return tf.nest.pack_sequence_as(arrays, flat)


def _stack(arrays: Any) -> Any:
  return tf.nest.map_structure(lambda a: a.stack(), arrays)


def _factors(masks: Sequence[Mask], dtype: tf.DType) -> Callable[[tf.Tensor], list[Any]]:
  """-> t -> the factor of each mask for token t."""
  keep = [None if mask.keep is None else _unstack(mask.keep) for mask in masks]
  return lambda t: [m.scale if k is None else tf.cast(k.read(t), dtype) * m.scale
                    for m, k in zip(masks, keep, strict=True)]
