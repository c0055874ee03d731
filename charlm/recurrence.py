"""The time loop of a recurrent layer: hoisted matrix products and a gradient written by hand."""
import tensorflow as tf

EPSILON = 1e-5


def centre(weights, groups):
  """Removes each row's mean over each group of columns: layer norm's mean, taken once per step.

  weights [.., sum(groups)] -> the same shape.
  """
  parts = tf.split(weights, list(groups), -1)
  return tf.concat([p - tf.reduce_mean(p, -1, keepdims=True) for p in parts], -1)


def normalise(a, groups):
  """a [.., sum(groups)], mean-free in each group -> a over its root mean square, and 1 over that, [..] + [1]s."""
  parts = tf.split(a, list(groups), -1)
  inverse = [tf.math.rsqrt(tf.reduce_mean(tf.square(p), -1, keepdims=True) + EPSILON) for p in parts]
  return tf.concat([p * i for p, i in zip(parts, inverse, strict=True)], -1), inverse


def layer_norm(a, gain, bias, groups):
  """a [.., sum(groups)], a product with `centre`d weights -> [.., sum(groups)]; gain, bias [sum(groups)]."""
  return normalise(a, groups)[0] * gain + bias


def step(cell, x, state, U, gain, bias):
  """One token: x [B, kH], U [H, kH] centred -> next state."""
  a = tf.matmul(tf.nest.flatten(state)[0], U)
  return cell.forward(x, gain * normalise(a, cell.groups(U.shape[0]))[0], state, bias)


def _array(like, steps):
  return tf.TensorArray(like.dtype, steps, element_shape=like.shape)


def _unstack(x):
  return tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x)


def recurrent_layer(cell, x, state, U, gain, bias):
  """-> outputs [T, B, H], states after each token (a nest of [T, B, H])."""
  groups, units = cell.groups(U.shape[0]), U.shape[0]
  flatten, pack = tf.nest.flatten, lambda flat: tf.nest.pack_sequence_as(state, flat)

  @tf.custom_gradient
  def layer(x, U, gain, bias, *start):
    steps = tf.shape(x)[0]
    xs = _unstack(x)

    def forward(t, state, states, maps):
      a = tf.matmul(state[0], U)
      n, _ = normalise(a, groups)
      state = flatten(cell.forward(xs.read(t), gain * n, pack(state), bias))
      return t + 1, state, [s.write(t, v) for s, v in zip(states, state, strict=True)], maps.write(t, a)

    like = tf.TensorSpec([start[0].shape[0], 3 * units], x.dtype)
    loop = (0, list(start), [_array(s, steps) for s in start], _array(like, steps))
    _, _, states, maps = tf.while_loop(lambda t, *_: t < steps, forward, loop)
    states, maps = [s.stack() for s in states], maps.stack()

    def gradient(*dstates):
      previous = [tf.concat([s0[None], s[:-1]], 0) for s0, s in zip(start, states, strict=True)]
      n, inverse = normalise(maps, groups)
      jacobian = cell.linearise(x, gain * n, pack(previous), bias)
      through = tf.split(gain * jacobian.a, list(groups), -1)
      through = tf.concat([d * i for d, i in zip(through, inverse, strict=True)], -1)
      arrivals, keeps = [_unstack(d) for d in dstates], [_unstack(k) for k in flatten(jacobian.keep)]
      factors, ns = _unstack(through), _unstack(n)
      U_transposed = tf.transpose(U)

      def backward(t, d, totals, das):
        d = [a.read(t) + b for a, b in zip(arrivals, d, strict=True)]
        normal = ns.read(t)
        raw = cell.spread(pack(d)) * factors.read(t)
        parts = zip(tf.split(raw, list(groups), -1), tf.split(normal, list(groups), -1), strict=True)
        da = tf.concat([r - m * tf.reduce_mean(r * m, -1, keepdims=True) for r, m in parts], -1)
        keep = tf.nest.pack_sequence_as(jacobian.keep, [k.read(t) for k in keeps])
        before = flatten(cell.backward(pack(d), keep))
        before[0] += tf.matmul(da, U_transposed)
        return t - 1, before, [s.write(t, v) for s, v in zip(totals, d, strict=True)], das.write(t, da)

      loop = (steps - 1, [tf.zeros_like(s) for s in start], [_array(s, steps) for s in start], _array(like, steps))
      _, dstart, totals, das = tf.while_loop(lambda t, *_: t >= 0, backward, loop)
      spread = cell.spread(pack([s.stack() for s in totals]))
      dU = tf.matmul(tf.reshape(previous[0], [-1, units]), tf.reshape(das.stack(), [-1, 3 * units]), transpose_a=True)
      da = spread * jacobian.a
      return spread * jacobian.x, dU, tf.reduce_sum(da * n, [0, 1]), cell.bias_gradient(da), *dstart

    return states, gradient

  states = layer(x, centre(U, groups), gain, bias, *flatten(state))
  return states[0], pack(states)
