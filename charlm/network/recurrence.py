"""The time loop of a recurrent layer: as little as possible inside it, and a gradient written by hand.

    x = W e, normalised       one product for all tokens, made by the caller
        |
        v
    a = h U, normalised  ->  gates  ->  h        the loop: T small products
    da U^T               <-  gates  <-  dh       the gradient's loop: T small products
    dU = sum of h^T da        one product for all tokens

The forward loop saves all that its gradient needs: computing the gates again was slower (benchmarks/README.md). On a
CPU the native backend does the same faster, where its kernels are built.

Both loops count up: XLA tells a GPU how often a loop runs only where it counts up from 0. Where it is not told, the
host is asked after each token.
"""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.network import arrays
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


class Form(NamedTuple):
  """How the loops are written for a compiler. What they compute is the same.

  Attributes:
    packed: the forward loop writes one tensor for each token, and not many. On a GPU each takes a kernel; on a CPU
      slices of what a loop reads keep XLA from vectorising (cells.py).
    brief: the gradient's loop writes the gradient of the states alone. All else is computed from it again, after the
      loop, for all tokens at once: on an accelerator arithmetic takes less time than waiting for it at each token.
    apart: the product for dU is kept apart from the gradient's loop, by an operation that only XLA has. The TPU's
      compiler otherwise takes its operands into the loop: a copy and a slice for each token.
  """
  packed: bool = False
  brief: bool = False
  apart: bool = False


# By platform.
FORMS = {'CPU': Form(), 'GPU': Form(packed=True, brief=True), 'TPU': Form(brief=True, apart=True)}


@dataclasses.dataclass(frozen=True)
class Recurrence:
  """A kind of recurrent layer.

  Attributes:
    cell: its gates.
    norm: where layer norm stands, a key of NORMS.
    matmul: (a, b, **options of tf.matmul) -> a b. Its gradient is never asked for.
    form: of the loops.
  """
  cell: Cell
  norm: str
  matmul: Callable[..., tf.Tensor] = tf.matmul
  form: Form = FORMS['CPU']

  def centred(self, U: tf.Tensor) -> tf.Tensor:
    """U [H, kH] as the products take it: each row's mean removed where there is layer norm."""
    return U if self.norm == 'none' else centre(U, [count * U.shape[0] for count in self.cell.groups])

  def step(self, x: Any, state: Any, weights: Weights, factors: Sequence[Any] | None = None) -> Any:
    """Reads one token.

    Args:
      x: the input's projections, [B, kH] or a Lookup.
      state: a nest of [B, H].
      weights: with U `centred`, and `split`.
      factors: those of the cell's masks, each a number or [B, H]; 1 by default.

    Returns:
      The state after it.
    """
    x = x.rows() if isinstance(x, Lookup) else x
    factors = factors or [1.0] * len(self.cell.masks)
    return self._step(tf.split(x, sum(self.cell.groups), -1), state, weights, factors)[0]

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
      states, saved = self._forward(tf.split(x, sum(self.cell.groups), -1), start, self.split(weights), masks, inner)

      def gradient(*dstates: tf.Tensor) -> tuple:
        dstates = tf.nest.pack_sequence_as(start, dstates)
        dx, *gradients = self._backward(dstates, start, states, saved, self.split(weights), masks, inner)
        return dx, *tf.nest.flatten(gradients)

      return tf.nest.flatten(states), gradient

    states = layer(x, *tf.nest.flatten(given))
    states = [tf.ensure_shape(s, x.shape[:2] + s.shape[2:]) for s in states]  # stacking forgets a static T
    return states[0], tf.nest.pack_sequence_as(state, states)

  def split(self, weights: Weights) -> Weights:
    """The gain of a norm becomes a list of k gains [H] for each of its weights [kH]."""
    gates = sum(self.cell.groups)
    return weights._replace(gain=[tf.split(g, gates) for g in tf.nest.flatten(weights.gain)])

  def _step(self, x: Gates, state: Any, weights: Weights, factors: Sequence[Any]) -> tuple[Any, tuple]:
    """x: k tensors. -> the next state, and what its gradient needs: (what the norm saves, activations)."""
    p = tf.split(self.matmul(tf.nest.flatten(state)[0], weights.U), len(x), -1)
    x, a, saved = NORMS[self.norm].forward(x, p, weights.gain, self.cell.groups)
    state, activations = self.cell.forward(x, a, state, weights.cell, factors)
    return state, (saved, list(activations))

  def _gradient(self, dstate: Any, state: Any, saved: tuple, weights: Weights,
                factors: Sequence[Any]) -> tuple[list[tf.Tensor], tf.Tensor, Any, Any]:
    """That of `_step` but for its product: of x (k tensors), h U, state, (gains, cell weights), these not summed.

    The tensors are those of one token or, [T, B, ..], of all.
    """
    (of_norm, activations), norm = saved, NORMS[self.norm]
    a = norm.restore(of_norm, weights.gain)
    dx, da, dbefore, dcell = self.cell.backward(dstate, activations, a, state, weights.cell, factors)
    dx, dp, dgains = norm.backward(dx, da, of_norm, weights.gain, self.cell.groups)
    return list(dx), tf.concat(dp, -1), dbefore, (dgains, dcell)

  def _layout(self, U: tf.Tensor) -> arrays.Layout:
    """Of what the forward loop writes for a token: the state, and what `_step` saves."""
    units, gates = U.shape[0], sum(self.cell.groups)
    state = units if self.cell.states == 1 else (units,) * self.cell.states
    of_norm = NORMS[self.norm].sizes(gates, len(self.cell.groups), units)
    return arrays.Layout((state, (of_norm, [units] * self.cell.saved)), self.form.packed)

  def _forward(self, x: Gates, state: Any, weights: Weights, masks: Sequence[Mask],
               resets: Resets | None) -> tuple[Any, list[tf.Tensor]]:
    """-> the states after each token, a nest of [T, B, H]; all that the loop has written, as `_layout` says."""
    steps, layout = tf.shape(x[0])[0], self._layout(weights.U)
    xs, factors = [arrays.unstack(g) for g in x], _factors(masks, x[0].dtype)

    def body(t: tf.Tensor, state: Any, outputs: Any) -> tuple:
      if resets:
        state = where_reset(tf.gather(resets.where, t), resets.state, state)
      state, saved = self._step(arrays.read(xs, t), state, weights, factors(t))
      return t + 1, state, arrays.write(outputs, t, layout.join((state, saved)))

    loop = 0, state, layout.make(steps, x[0])
    written = arrays.stack(tf.while_loop(lambda t, *_: t < steps, body, loop)[2])
    return layout.split(written)[0], written

  def _backward(self, dstates: Any, start: Any, states: Any, written: list[tf.Tensor], weights: Weights,
                masks: Sequence[Mask], resets: Resets | None) -> tuple[tf.Tensor, Any, tuple, Any]:
    """-> gradients of x, start, (U, gain, cell weights), resets.state, from those of the states after each token."""
    nest, layout = tf.nest.map_structure, self._layout(weights.U)
    previous = _previous(start, states, resets)
    h = tf.nest.flatten(previous)[0]
    steps, (units, columns) = tf.shape(h)[0], weights.U.shape
    arrived, before, saved = nest(arrays.unstack, (dstates, previous, written))
    U_transposed, factors = tf.transpose(weights.U), _factors(masks, h.dtype)

    def body(i: tf.Tensor, dstate: Any, outputs: Any, sums: Any, dreset: Any) -> tuple:
      t = steps - 1 - i
      dafter = nest(tf.add, dstate, arrays.read(arrived, t))
      dx, dproduct, dstate, of_weights = self._gradient(
          dafter, arrays.read(before, t), layout.split(arrays.read(saved, t))[1], weights, factors(t))
      dh, *others = tf.nest.flatten(dstate)
      dstate = tf.nest.pack_sequence_as(dstate, [dh + self.matmul(dproduct, U_transposed), *others])
      if resets:
        zeros, reset = nest(tf.zeros_like, dstate), tf.gather(resets.where, t)
        dreset = nest(tf.add, dreset, where_reset(reset, dstate, zeros))
        dstate = where_reset(reset, zeros, dstate)
      if self.form.brief:
        return i + 1, dstate, arrays.write(outputs, t, dafter), (), dreset
      return i + 1, dstate, arrays.write(outputs, t, (dx, dproduct)), nest(tf.add, sums, of_weights), dreset

    zeros, brief = nest(tf.zeros_like, start), self.form.brief
    left = layout.columns[0] if brief else ([units] * (columns // units), columns)
    sums = nest(lambda w: tf.zeros([tf.shape(h)[1], w.shape[-1]], h.dtype), (weights.gain, weights.cell))
    loop = (0, zeros, nest(lambda n: arrays.array(steps, n, h), left), () if brief else sums, zeros if resets else ())
    _, dstart, outputs, sums, dreset = tf.while_loop(lambda i, *_: i < steps, body, loop)
    left = arrays.stack(outputs)
    if brief:
      *left, _, sums = self._gradient(left, previous, layout.split(written)[1], weights, factors(None))
    dx, dproducts = left
    dgain, dcell = nest(lambda s: tf.reduce_sum(s, list(range(s.shape.rank - 1))), sums)
    return tf.concat(dx, -1), dstart, (self._dU(h, dproducts), [tf.concat(g, -1) for g in dgain], dcell), dreset

  def _dU(self, h: tf.Tensor, dproducts: tf.Tensor) -> tf.Tensor:
    """The gradient of U, from those of h U."""
    operands = [tf.reshape(a, [-1, a.shape[-1]]) for a in (h, dproducts)]
    if self.form.apart:
      from tensorflow.compiler.tf2xla.python import xla  # which not every TensorFlow need have
      operands = xla.optimization_barrier(*operands)
    return self.matmul(*operands, transpose_a=True)


def _previous(start: Any, states: Any, resets: Resets | None) -> Any:
  """The states that tokens were read from: nests of [T, B, H]."""
  previous = tf.nest.map_structure(lambda s0, s: tf.concat([s0[None], s[:-1]], 0), start, states)
  if not resets:
    return previous
  return where_reset(resets.where, tf.nest.map_structure(lambda s: s[None], resets.state), previous)


def _factors(masks: Sequence[Mask], dtype: tf.DType) -> Callable[[tf.Tensor | None], list[Any]]:
  """-> t -> the factor of each mask for token t; None: for all of them."""
  keep = [None if mask.keep is None else arrays.unstack(mask.keep) for mask in masks]
  return lambda t: [m.scale if k is None else tf.cast(m.keep if t is None else k.read(t), dtype) * m.scale
                    for m, k in zip(masks, keep, strict=True)]
