"""The time loop of a recurrent layer: as little as possible inside it, and a gradient written by hand.

    x = W e, normalised       one product for all tokens, done by the caller
        |
        v
    a = h U, normalised  ->  gates  ->  h        the loop: T small products
    da U^T               <-  gates  <-  dh       the gradient's loop: T small products
    dU = sum of h^T da        one product for all tokens

Layer norm subtracts the mean of a map over its units. That is the same as removing the mean of each row of the
weights, so `centre` does it once a step, and tokens are divided by their root mean square only.

The forward loop keeps all that its gradient needs: computing the gates again was slower (benchmarks/recurrence.py).
"""
import functools

import tensorflow as tf

EPSILON = 1e-5


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


def step(cell, x, state, U, gain, bias):
  """One token, for sampling: x [B, kH], U [H, kH] already `centre`d -> the next state."""
  return _step(cell, x, state, U, gain, bias)[0]


def _step(cell, x, state, U, gain, bias):
  """-> the next state, (normalised groups, 1/rms of each, activations)."""
  groups = cell.groups(U.shape[0])
  n, inverses = normalise(tf.matmul(tf.nest.flatten(state)[0], U), groups)
  a = [m * g for m, g in zip(n, tf.split(gain, list(groups)), strict=True)]
  state, activations = cell.forward(x, a, state, bias)
  return state, (n, inverses, list(activations))


def _step_gradient(cell, dstate, state, residue, U_transposed, gain, bias):
  """The gradient of `_step`: -> of x (a tensor a group), h U, state, gain and bias (these two [B, ..])."""
  n, inverses, activations = residue
  gains = tf.split(gain, [m.shape[-1] for m in n])
  a = [m * g for m, g in zip(n, gains, strict=True)]
  dx, da, dbefore, dbias = cell.backward(dstate, activations, a, state, bias)
  dgain = [d * m for d, m in zip(da, n, strict=True)]
  means = [tf.reduce_mean(d * g, -1, keepdims=True) for d, g in zip(dgain, gains, strict=True)]
  dproduct = tf.concat([i * (d * g - m * mean) for i, d, g, m, mean in
                        zip(inverses, da, gains, n, means, strict=True)], -1)
  dh, *others = tf.nest.flatten(dbefore)
  dbefore = tf.nest.pack_sequence_as(state, [dh + tf.matmul(dproduct, U_transposed), *others])
  return dx, dproduct, dbefore, dgain, dbias


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


def _forward(cell, x, state, U, gain, bias):
  """-> states after each token, and what `_step` says of each, for the gradient: nests of [T, B, ..]."""
  steps, units = tf.shape(x)[0], U.shape[0]
  array = functools.partial(_array, steps, like=x)
  groups = cell.groups(units)
  arrays = (tf.nest.map_structure(lambda s: array(s.shape[-1]), state),
            ([array(g) for g in groups], [array(1) for _ in groups], [array(units) for _ in range(cell.saved)]))
  xs = _unstack(x)

  def body(t, state, arrays):
    state, residue = _step(cell, xs.read(t), state, U, gain, bias)
    return t + 1, state, _write(arrays, t, (state, residue))

  return _stack(tf.while_loop(lambda t, *_: t < steps, body, (0, state, arrays))[2])


def _backward(cell, dstates, start, states, residue, U, gain, bias):
  """-> gradients of x, start, U, gain, bias from that of the states after each token."""
  nest = tf.nest.map_structure
  previous = nest(lambda s0, s: tf.concat([s0[None], s[:-1]], 0), start, states)
  h = tf.nest.flatten(previous)[0]
  steps, batch = tf.shape(h)[0], tf.shape(h)[1]
  arrived, before, kept = nest(_unstack, (dstates, previous, residue))
  U_transposed = tf.transpose(U)

  def body(t, dstate, dxs, dproducts, sums):
    dstate = nest(tf.add, dstate, _read(arrived, t))
    dx, dproduct, dstate, dgain, dbias = _step_gradient(
        cell, dstate, _read(before, t), _read(kept, t), U_transposed, gain, bias)
    return (t - 1, dstate, dxs.write(t, tf.concat(dx, -1)), dproducts.write(t, dproduct),
            nest(tf.add, sums, (dgain, dbias)))

  sums = nest(lambda like: tf.zeros([batch, like.shape[-1]], h.dtype), (residue[0], bias))
  maps = U.shape[1]
  loop = (steps - 1, nest(tf.zeros_like, start), _array(steps, maps, h), _array(steps, maps, h), sums)
  _, dstart, dxs, dproducts, sums = tf.while_loop(lambda t, *_: t >= 0, body, loop)
  dU = tf.matmul(tf.reshape(h, [-1, U.shape[0]]), tf.reshape(dproducts.stack(), [-1, maps]), transpose_a=True)
  dgain, dbias = nest(lambda s: tf.reduce_sum(s, 0), sums)
  return dxs.stack(), dstart, dU, tf.concat(dgain, -1), dbias


def recurrent_layer(cell, x, state, U, gain, bias):
  """A recurrent layer over T tokens; its gradient can be taken once, in x, state, U, gain and bias.

  x [T, B, kH]: the input's normalised maps, gains and biases included. state: nest of [B, H] before the first
  token. U [H, kH], centred here. gain [kH] of the state's maps. bias: what `cell` adds to them (GRU: beta_hc [H]).

  Returns outputs [T, B, H] and the states after each token, a nest of [T, B, H]. Works with T and B unknown.
  """
  def pack(flat):
    return tf.nest.pack_sequence_as((state, bias), flat)

  @tf.custom_gradient
  def layer(x, U, gain, *flat):
    start, bias = pack(flat)
    states, residue = _forward(cell, x, start, U, gain, bias)

    def gradient(*dstates):
      dstates = tf.nest.pack_sequence_as(start, dstates)
      dx, dstart, dU, dgain, dbias = _backward(cell, dstates, start, states, residue, U, gain, bias)
      return dx, dU, dgain, *tf.nest.flatten((dstart, dbias))

    return tf.nest.flatten(states), gradient

  states = layer(x, centre(U, cell.groups(U.shape[0])), gain, *tf.nest.flatten((state, bias)))
  states = [tf.ensure_shape(s, x.shape[:2] + s.shape[2:]) for s in states]  # stacking forgets a static T
  return states[0], tf.nest.pack_sequence_as(state, states)
