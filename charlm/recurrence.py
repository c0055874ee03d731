"""The time loop of a recurrent layer: as little as possible inside it, and a gradient written by hand.

    x = W e, normalised       one product for all tokens, done by the caller
        |
        v
    a = h U, normalised  ->  gates  ->  h        the loop: T small products
    da U^T               <-  gates  <-  dh       the gradient's loop: T small products
    dU = sum of h^T da        one product for all tokens

Layer norm subtracts the mean of a map over its units. That is the same as removing the mean of each row of the
weights, so `centre` does it once a step, and tokens are divided by their root mean square only.

The forward loop keeps all that its gradient needs: computing the gates again was slower (benchmarks/README.md). On a
CPU native.py does the same faster, where its kernels are built.
"""
import itertools
from typing import Any, NamedTuple

import tensorflow as tf

from charlm import cells, native

EPSILON = 1e-5


class Starts(NamedTuple):
  """Tokens that are read from another state than the one before them, where documents start."""
  where: tf.Tensor  # [T, B] bool
  state: Any  # nest of [B, H]


class Rows(NamedTuple):
  """Maps of tokens that depend on the token alone: table [V, kH], tokens [T, B] -> [T, B, kH]."""
  table: tf.Tensor
  tokens: tf.Tensor


def centre(weights, groups):
  """Removes each row's mean over each group of columns: weights [.., sum(groups)] -> the same shape."""
  parts = tf.split(weights, list(groups), -1)
  return tf.concat([p - tf.reduce_mean(p, -1, keepdims=True) for p in parts], -1)


def normalise(a, groups):
  """Root mean square 1 in each group: a [.., sum(groups)], mean-free -> normalised groups, 1/rms [.., 1] of each."""
  parts = tf.split(a, list(groups), -1)
  inverses = [tf.math.rsqrt(tf.reduce_mean(tf.square(p), -1, keepdims=True) + EPSILON) for p in parts]
  return [p * i for p, i in zip(parts, inverses, strict=True)], inverses


def layer_norm(a, gain, bias, groups):
  """Layer norm of a product with `centre`d weights: a [.., sum(groups)]; gain, bias [sum(groups)]."""
  return tf.concat(normalise(a, groups)[0], -1) * gain + bias


def product(a, b, dtype=None, **options):
  """tf.matmul of what a and b are when rounded to `dtype`, in the type of a."""
  if dtype in (None, a.dtype):
    return tf.matmul(a, b, **options)
  return tf.cast(tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype), **options), a.dtype)


def step(cell, x, state, U, gain, bias, factors=None, dtype=None):
  """One token, for sampling: x [B, kH] or Rows, U [H, kH] already `centre`d, factors of the masks -> the next state."""
  maps = sum(cell.groups)
  factors = factors or [1.0] * cell.masks
  if isinstance(x, Rows):
    x = tf.gather(x.table, x.tokens)
  return _step(cell, tf.split(x, maps, -1), state, U, tf.split(gain, maps), bias, factors, dtype)[0]


def _by_group(cell, maps):
  """k tensors -> a list of them for each normalised group."""
  maps = iter(maps)
  return [list(itertools.islice(maps, count)) for count in cell.groups]


def _group_mean(maps):
  """The mean over the units of all maps [B, H] of a group: [B, 1]."""
  return tf.add_n([tf.reduce_mean(m, -1, keepdims=True) for m in maps]) / len(maps)


def _step(cell, x, state, U, gain, bias, factors, dtype):
  """x, gain: k tensors -> the next state, (k normalised maps, 1/rms of each group, activations)."""
  groups = _by_group(cell, tf.split(product(tf.nest.flatten(state)[0], U, dtype), len(gain), -1))
  inverses = [tf.math.rsqrt(_group_mean([tf.square(m) for m in maps]) + EPSILON) for maps in groups]
  n = [m * inverse for maps, inverse in zip(groups, inverses, strict=True) for m in maps]
  state, activations = cell.forward(x, [m * g for m, g in zip(n, gain, strict=True)], state, bias, factors)
  return state, (n, inverses, list(activations))


def _step_gradient(cell, dstate, state, residue, U_transposed, gain, bias, factors, dtype):
  """The gradient of `_step`: -> of x (k tensors), h U, state, gain (k tensors) and bias (these two [B, ..])."""
  n, inverses, activations = residue
  a = [m * g for m, g in zip(n, gain, strict=True)]
  dx, da, dbefore, dbias = cell.backward(dstate, activations, a, state, bias, factors)
  dgain = [d * m for d, m in zip(da, n, strict=True)]
  means = [_group_mean(maps) for maps in _by_group(cell, [d * g for d, g in zip(dgain, gain, strict=True)])]
  shares = [(i, mean) for i, mean, count in zip(inverses, means, cell.groups, strict=True) for _ in range(count)]
  dproduct = tf.concat([i * (d * g - m * mean) for (i, mean), d, g, m in zip(shares, da, gain, n, strict=True)], -1)
  dh, *others = tf.nest.flatten(dbefore)
  dbefore = tf.nest.pack_sequence_as(state, [dh + product(dproduct, U_transposed, dtype), *others])
  return list(dx), dproduct, dbefore, dgain, dbias


def _array(steps, last, like):
  """An array for a tensor [B, last] a token; like [.., B, any]."""
  return tf.TensorArray(like.dtype, steps, element_shape=[like.shape[-2], last])


def _unstack(x):
  return _array(tf.shape(x)[0], x.shape[-1], x).unstack(x)


def _read(arrays, t):
  return tf.nest.map_structure(lambda a: a.read(t), arrays)


def _write(arrays, t, values):
  flat = [a.write(t, v) for a, v in zip(tf.nest.flatten(arrays), tf.nest.flatten(values), strict=True)]
  return tf.nest.pack_sequence_as(arrays, flat)


def _stack(arrays):
  return tf.nest.map_structure(lambda a: a.stack(), arrays)


def _factors(masks, dtype):
  """-> t -> the factor of each mask for token t."""
  kept = [None if mask.kept is None else _unstack(mask.kept) for mask in masks]
  return lambda t: [m.scale if k is None else tf.cast(k.read(t), dtype) * m.scale
                    for m, k in zip(masks, kept, strict=True)]


def _where(starts, state, other):
  """Nests of [.., B, H]: `state` where starts [.., B] is true, `other` elsewhere."""
  return tf.nest.map_structure(lambda s, o: tf.where(starts[..., None], s, o), state, other)


def _forward(cell, x, state, U, gain, bias, masks, dtype, starts):
  """-> states after each token, and what `_step` says of each, for the gradient: nests of [T, B, ..]."""
  steps, units = tf.shape(x[0])[0], U.shape[0]

  def arrays_of(count, size):
    return [_array(steps, size, x[0]) for _ in range(count)]

  arrays = (tf.nest.map_structure(lambda s: _array(steps, s.shape[-1], s), state),
            (arrays_of(len(x), units), arrays_of(len(cell.groups), 1), arrays_of(cell.saved, units)))
  xs, factors = [_unstack(m) for m in x], _factors(masks, x[0].dtype)

  def body(t, state, arrays):
    if starts:
      state = _where(tf.gather(starts.where, t), starts.state, state)
    state, residue = _step(cell, _read(xs, t), state, U, gain, bias, factors(t), dtype)
    return t + 1, state, _write(arrays, t, (state, residue))

  return _stack(tf.while_loop(lambda t, *_: t < steps, body, (0, state, arrays))[2])


def _backward(cell, dstates, start, states, residue, U, gain, bias, masks, dtype, starts):
  """-> gradients of x, start, U, gain, bias, starts.state from that of the states after each token."""
  nest = tf.nest.map_structure
  previous = nest(lambda s0, s: tf.concat([s0[None], s[:-1]], 0), start, states)
  if starts:
    previous = _where(starts.where, nest(lambda s: s[None], starts.state), previous)
  h = tf.nest.flatten(previous)[0]
  steps, batch = tf.shape(h)[0], tf.shape(h)[1]
  arrived, before, kept = nest(_unstack, (dstates, previous, residue))
  U_transposed, factors = tf.transpose(U), _factors(masks, h.dtype)

  def body(t, dstate, dxs, dproducts, sums, dstarts):
    dstate = nest(tf.add, dstate, _read(arrived, t))
    dx, dproduct, dstate, dgain, dbias = _step_gradient(
        cell, dstate, _read(before, t), _read(kept, t), U_transposed, gain, bias, factors(t), dtype)
    if starts:
      zeros, afresh = nest(tf.zeros_like, dstate), tf.gather(starts.where, t)
      dstarts = nest(tf.add, dstarts, _where(afresh, dstate, zeros))
      dstate = _where(afresh, zeros, dstate)
    sums = nest(tf.add, sums, (dgain, dbias))
    return t - 1, dstate, _write(dxs, t, dx), dproducts.write(t, dproduct), sums, dstarts

  sums = nest(lambda like: tf.zeros([batch, like.shape[-1]], h.dtype), (list(gain), bias))
  units, maps = U.shape
  dxs = [_array(steps, units, h) for _ in gain]
  zeros = nest(tf.zeros_like, start)
  loop = (steps - 1, zeros, dxs, _array(steps, maps, h), sums, zeros if starts else ())
  _, dstart, dxs, dproducts, sums, dstarts = tf.while_loop(lambda t, *_: t >= 0, body, loop)
  dU = product(tf.reshape(h, [-1, units]), tf.reshape(dproducts.stack(), [-1, maps]), dtype, transpose_a=True)
  dgain, dbias = nest(lambda s: tf.reduce_sum(s, 0), sums)
  return tf.concat(_stack(dxs), -1), dstart, dU, tf.concat(dgain, -1), dbias, dstarts


def recurrent_layer(cell, x, state, U, gain, bias, masks=None, *, native_kernels=False, differentiable=True,
                    dtype=None, starts=None):
  """A recurrent layer over T tokens; its gradient can be taken once, in x, state, U, gain, bias and starts.state.

  x [T, B, kH] or Rows: the input's normalised maps, gains and biases included. state: nest of [B, H] before the first
  token. U [H, kH], centred here. gain [kH] of the state's maps. bias: what `cell` adds to them (GRU: beta_hc [H]).
  masks: one cells.Mask for each that the cell takes; by default nothing is masked.
  native_kernels: use native.py, which has the GRU, where T and B are known and XLA compiles for a CPU.
  differentiable: whether the gradient will be taken; native kernels keep nothing for it otherwise.
  dtype: what the numbers in products are rounded to, where it is another than theirs; not with native kernels.
  starts: Starts, or None; native kernels do without them.

  Returns outputs [T, B, H] and the states after each token, a nest of [T, B, H]. Works with T and B unknown.
  """
  masks = masks or [cells.Mask()] * cell.masks
  centred = centre(U, [count * U.shape[0] for count in cell.groups])
  if native_kernels and not starts:
    states = native.gru(x, state, centred, gain, bias, masks, differentiable=differentiable)
    return states, states
  if isinstance(x, Rows):
    x = tf.gather(x.table, x.tokens)

  maps, where, given = sum(cell.groups), starts and starts.where, (state, bias, starts.state if starts else ())

  @tf.custom_gradient
  def layer(x, U, gain, *flat):
    start, bias, other = tf.nest.pack_sequence_as(given, flat)
    starts = None if where is None else Starts(where, other)
    x, gain = tf.split(x, maps, -1), tf.split(gain, maps)
    states, residue = _forward(cell, x, start, U, gain, bias, masks, dtype, starts)

    def gradient(*dstates):
      dstates = tf.nest.pack_sequence_as(start, dstates)
      dx, dstart, dU, dgain, dbias, dstarts = _backward(cell, dstates, start, states, residue, U, gain, bias, masks,
                                                        dtype, starts)
      return dx, dU, dgain, *tf.nest.flatten((dstart, dbias, dstarts))

    return tf.nest.flatten(states), gradient

  states = layer(x, centred, gain, *tf.nest.flatten(given))
  states = [tf.ensure_shape(s, x.shape[:2] + s.shape[2:]) for s in states]  # stacking forgets a static T
  return states[0], tf.nest.pack_sequence_as(state, states)
