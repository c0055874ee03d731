"""The time loop of a recurrent layer: as little as possible inside it, and a gradient written by hand.

    x = W e, normalised       one product for all tokens, done by the caller
        |
        v
    a = h U, normalised  ->  gates  ->  h        the loop: T small products
    da U^T               <-  gates  <-  dh       the gradient's loop: T small products
    dU = sum of h^T da        one product for all tokens

Layer norm subtracts the mean of a map over its units. That is the same as removing the mean of each row of the
weights, so `centre` does it once a step, and tokens are divided by their root mean square only. Where it stands is one
of `NORMS`: on W e and h U each by itself (as drawn), on their sum, which then is all in the loop, or nowhere.

The forward loop keeps all that its gradient needs: computing the gates again was slower (benchmarks/README.md). On a
CPU native.py does the same faster, where its kernels are built.
"""
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.network import cells, native
from charlm.network.cells import EPSILON


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


def gathered(x):
  """Rows, or what they stand for already -> [T, B, kH]."""
  return tf.gather(x.table, x.tokens) if isinstance(x, Rows) else x


def added(parts):
  """The sum of a list of Rows and [T, B, kH]; one alone stays what it is."""
  return tf.add_n([gathered(part) for part in parts]) if len(parts) > 1 else parts[0]


def product(a, b, dtype=None, **options):
  """tf.matmul of what a and b are when rounded to `dtype`, in the type of a."""
  if dtype in (None, a.dtype):
    return tf.matmul(a, b, **options)
  return tf.cast(tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype), **options), a.dtype)


def _group_means(maps, groups):
  """k tensors [B, H] -> the mean [B, 1] over the units of all maps of each normalised group."""
  maps = iter(maps)
  members = [list(itertools.islice(maps, count)) for count in groups]
  return [tf.add_n([tf.reduce_mean(m, -1, keepdims=True) for m in group]) / len(group) for group in members]


def _inverses(maps, groups):
  """k mean-free tensors -> 1/rms [B, 1] of each group."""
  return [tf.math.rsqrt(mean + EPSILON) for mean in _group_means([tf.square(m) for m in maps], groups)]


def _each(values, groups):
  """One of each group -> one for each map."""
  return [value for value, count in zip(values, groups, strict=True) for _ in range(count)]


def _times(maps, factors):
  return [m * f for m, f in zip(maps, factors, strict=True)]


class Norm(NamedTuple):
  """Where layer norm stands in a recurrent layer: between the maps x and p = h U and what a cell takes.

  All are lists of the k maps of `groups`, gains too: a list of them for each weight [kH] that the norm has.

  sizes: (maps, groups, units) -> the sizes of what `forward` keeps for the gradient, a nest.
  forward: (x, p, gains, groups) -> x and a, as a cell takes them; what is kept, tensors [B, size].
  state_maps: (kept, gains) -> a again.
  backward: (dx, da, kept, gains, groups) -> gradients of x, p, and gains (rows not yet summed: [B, H]).
  """
  sizes: Callable
  forward: Callable
  state_maps: Callable
  backward: Callable


def _separate_forward(x, p, gains, groups):
  inverses = _inverses(p, groups)
  n = _times(p, _each(inverses, groups))
  return x, _times(n, gains[0]), (n, inverses)


def _separate_backward(dx, da, kept, gains, groups):
  n, inverses = kept
  dgain = _times(da, n)
  means = _each(_group_means(_times(dgain, gains[0]), groups), groups)
  dp = [i * (d * g - m * mean)
        for i, d, g, m, mean in zip(_each(inverses, groups), da, gains[0], n, means, strict=True)]
  return dx, dp, [dgain]


def _joint_forward(x, p, gains, groups):
  """Both over the root mean square of x + p: where a cell adds x and a, that is LN(x + p; gain) + bias."""
  gain, bias = gains
  inverses = _inverses([m + q for m, q in zip(x, p, strict=True)], groups)
  n_x, n_p = (_times(maps, _each(inverses, groups)) for maps in (x, p))
  x = [m * g + b for m, g, b in zip(n_x, gain, bias, strict=True)]
  return x, _times(n_p, gain), (n_x, n_p, inverses)


def _joint_backward(dx, da, kept, gains, groups):
  n_x, n_p, inverses = kept
  dgain = [d * m + e * q for d, m, e, q in zip(dx, n_x, da, n_p, strict=True)]
  means = _each(_group_means(_times(dgain, gains[0]), groups), groups)
  shared = [(m + q) * mean for m, q, mean in zip(n_x, n_p, means, strict=True)]
  dmaps = [[i * (d * g - s) for i, d, g, s in zip(_each(inverses, groups), maps, gains[0], shared, strict=True)]
           for maps in (dx, da)]
  return *dmaps, [dgain, list(dx)]


NORMS = {
  'separate': Norm(sizes=lambda maps, groups, units: ([units] * maps, [1] * groups), forward=_separate_forward,
                   state_maps=lambda kept, gains: _times(kept[0], gains[0]), backward=_separate_backward),
  'joint': Norm(sizes=lambda maps, groups, units: ([units] * maps, [units] * maps, [1] * groups),
                forward=_joint_forward, state_maps=lambda kept, gains: _times(kept[1], gains[0]),
                backward=_joint_backward),
  'none': Norm(sizes=lambda maps, groups, units: [units] * maps, forward=lambda x, p, gains, groups: (x, p, p),
               state_maps=lambda kept, gains: kept, backward=lambda dx, da, kept, gains, groups: (dx, da, [])),
}


def recurrent_weights(cell, U, norm='separate'):
  """U [H, kH] as its products take it: centred where there is layer norm."""
  return U if norm == 'none' else centre(U, [count * U.shape[0] for count in cell.groups])


def _split(gain, maps):
  """The weights of a norm, a nest of [kH] -> a list of k maps [H] for each."""
  return [tf.split(g, maps) for g in tf.nest.flatten(gain)]


def step(cell, x, state, U, gain, own, factors=None, *, norm='separate', dtype=None):
  """One token, for sampling: x [B, kH] or Rows, U as from `recurrent_weights`, factors of masks -> the next state."""
  maps, factors = sum(cell.groups), factors or [1.0] * len(cell.masks)
  return _step(cell, NORMS[norm], tf.split(gathered(x), maps, -1), state, U, _split(gain, maps), own, factors,
               dtype)[0]


def _step(cell, norm, x, state, U, gains, own, factors, dtype):
  """x: k tensors -> the next state, (what the norm keeps, activations)."""
  p = tf.split(product(tf.nest.flatten(state)[0], U, dtype), len(x), -1)
  x, a, kept = norm.forward(x, p, gains, cell.groups)
  state, activations = cell.forward(x, a, state, own, factors)
  return state, (kept, list(activations))


def _step_gradient(cell, norm, dstate, state, residue, U_transposed, gains, own, factors, dtype):
  """The gradient of `_step`: -> of x (k tensors), h U, state, gains and own (these two [B, ..])."""
  kept, activations = residue
  dx, da, dbefore, down = cell.backward(dstate, activations, norm.state_maps(kept, gains), state, own, factors)
  dx, dp, dgains = norm.backward(dx, da, kept, gains, cell.groups)
  dproduct = tf.concat(dp, -1)
  dh, *others = tf.nest.flatten(dbefore)
  dbefore = tf.nest.pack_sequence_as(state, [dh + product(dproduct, U_transposed, dtype), *others])
  return list(dx), dproduct, dbefore, dgains, down


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


def where(starts, state, other):
  """Nests of [.., B, H]: `state` where starts [.., B] is true, `other` elsewhere."""
  return tf.nest.map_structure(lambda s, o: tf.where(starts[..., None], s, o), state, other)


def _forward(cell, norm, x, state, U, gains, own, masks, dtype, starts):
  """-> states after each token, and what `_step` says of each, for the gradient: nests of [T, B, ..]."""
  steps, units = tf.shape(x[0])[0], U.shape[0]
  sizes = norm.sizes(len(x), len(cell.groups), units), [units] * cell.saved
  arrays = (tf.nest.map_structure(lambda s: _array(steps, s.shape[-1], s), state),
            tf.nest.map_structure(lambda size: _array(steps, size, x[0]), sizes))
  xs, factors = [_unstack(m) for m in x], _factors(masks, x[0].dtype)

  def body(t, state, arrays):
    if starts:
      state = where(tf.gather(starts.where, t), starts.state, state)
    state, residue = _step(cell, norm, _read(xs, t), state, U, gains, own, factors(t), dtype)
    return t + 1, state, _write(arrays, t, (state, residue))

  return _stack(tf.while_loop(lambda t, *_: t < steps, body, (0, state, arrays))[2])


def _backward(cell, norm, dstates, start, states, residue, U, gains, own, masks, dtype, starts):
  """-> gradients of x, start, U, gains, own, starts.state from that of the states after each token."""
  nest = tf.nest.map_structure
  previous = nest(lambda s0, s: tf.concat([s0[None], s[:-1]], 0), start, states)
  if starts:
    previous = where(starts.where, nest(lambda s: s[None], starts.state), previous)
  h = tf.nest.flatten(previous)[0]
  steps, batch = tf.shape(h)[0], tf.shape(h)[1]
  arrived, before, kept = nest(_unstack, (dstates, previous, residue))
  U_transposed, factors = tf.transpose(U), _factors(masks, h.dtype)

  def body(t, dstate, dxs, dproducts, sums, dstarts):
    dstate = nest(tf.add, dstate, _read(arrived, t))
    dx, dproduct, dstate, dgains, down = _step_gradient(
        cell, norm, dstate, _read(before, t), _read(kept, t), U_transposed, gains, own, factors(t), dtype)
    if starts:
      zeros, afresh = nest(tf.zeros_like, dstate), tf.gather(starts.where, t)
      dstarts = nest(tf.add, dstarts, where(afresh, dstate, zeros))
      dstate = where(afresh, zeros, dstate)
    sums = nest(tf.add, sums, (dgains, down))
    return t - 1, dstate, _write(dxs, t, dx), dproducts.write(t, dproduct), sums, dstarts

  sums = nest(lambda like: tf.zeros([batch, like.shape[-1]], h.dtype), (gains, own))
  units, maps = U.shape
  dxs = [_array(steps, units, h) for _ in range(maps // units)]
  zeros = nest(tf.zeros_like, start)
  loop = (steps - 1, zeros, dxs, _array(steps, maps, h), sums, zeros if starts else ())
  _, dstart, dxs, dproducts, sums, dstarts = tf.while_loop(lambda t, *_: t >= 0, body, loop)
  dU = product(tf.reshape(h, [-1, units]), tf.reshape(dproducts.stack(), [-1, maps]), dtype, transpose_a=True)
  return tf.concat(_stack(dxs), -1), dstart, dU, *nest(lambda s: tf.reduce_sum(s, 0), sums), dstarts


def recurrent_layer(cell, x, state, U, gain, own, masks=None, *, norm='separate', native_kernels=False,
                    differentiable=True, dtype=None, starts=None):
  """A recurrent layer over T tokens; its gradient can be taken once, in x, state, U, gain, own and starts.state.

  x: the input's maps, [T, B, kH] or Rows. norm='separate': normalised, gains and biases included; 'joint': products
    with `centre`d weights; 'none': biases included.
  state: nest of [B, H] before the first token. U [H, kH], centred here.
  gain: weights of layer norm here. 'separate': [kH], of the state's maps; 'joint': gain and bias of the sums, each
    [kH]; 'none': ().
  own: what the cell has beside the maps (GRU: beta_hc [H]).
  masks: one cells.Mask for each that the cell takes; by default nothing is masked.
  native_kernels: use native.py, which has the GRU with separate norms, where T and B are known and XLA compiles for a
    CPU.
  differentiable: whether the gradient will be taken; native kernels keep nothing for it otherwise.
  dtype: what the numbers in products are rounded to, where it is another than theirs; not with native kernels.
  starts: Starts, or None; native kernels do without them.

  Returns outputs [T, B, H] and the states after each token, a nest of [T, B, H]. Works with T and B unknown.
  """
  masks = masks or [cells.Mask()] * len(cell.masks)
  weights = recurrent_weights(cell, U, norm)
  if native_kernels and not starts:
    assert cell == cells.GRU and norm == 'separate', (cell, norm)
    states = native.gru(x, state, weights, gain, own, masks, differentiable=differentiable)
    return states, states
  x, maps, fresh = gathered(x), sum(cell.groups), starts and starts.where
  given = state, tf.nest.flatten(gain), own, starts.state if starts else ()

  @tf.custom_gradient
  def layer(x, U, *flat):
    start, gains, own, other = tf.nest.pack_sequence_as(given, flat)
    starts = None if fresh is None else Starts(fresh, other)
    x, gains = tf.split(x, maps, -1), _split(gains, maps)
    states, residue = _forward(cell, NORMS[norm], x, start, U, gains, own, masks, dtype, starts)

    def gradient(*dstates):
      dstates = tf.nest.pack_sequence_as(start, dstates)
      dx, dstart, dU, dgains, down, dstarts = _backward(cell, NORMS[norm], dstates, start, states, residue, U, gains,
                                                        own, masks, dtype, starts)
      return dx, dU, *tf.nest.flatten((dstart, [tf.concat(g, -1) for g in dgains], down, dstarts))

    return tf.nest.flatten(states), gradient

  states = layer(x, weights, *tf.nest.flatten(given))
  states = [tf.ensure_shape(s, x.shape[:2] + s.shape[2:]) for s in states]  # stacking forgets a static T
  return states[0], tf.nest.pack_sequence_as(state, states)
