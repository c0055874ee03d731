"""The weights of the network's layers, and how their callers use them: for all tokens at once, or one by one."""
import itertools

import keras
import tensorflow as tf

from charlm.network import cells, dropout, native, recurrence


class Map(tf.Module):
  """A linear map. norm='separate': x [.., n] -> LN(x W; gain) + bias [.., sum(groups)], the layer norm by groups.

  'none': x W + bias. 'joint': x W alone, W centred; layer norm, gain and bias come where it has been added to others.
  """

  def __init__(self, size, groups, bias, seed, name, dtype, norm='separate'):
    super().__init__(name)
    self.groups, self.dtype, self.norm = tuple(groups), dtype, norm
    units = sum(self.groups)
    self.kernel = tf.Variable(keras.initializers.GlorotUniform(seed)((size, units)), name=f'{name}_kernel')
    if norm == 'separate':
      self.gain = tf.Variable(tf.ones(units), name=f'{name}_gain')
    if norm != 'joint':
      self.bias = tf.Variable(tf.constant(bias, tf.float32, [units]), name=f'{name}_bias')

  def _weights(self):
    kernel = self.kernel if self.norm == 'none' else recurrence.centre(self.kernel, self.groups)
    others = [getattr(self, name) for name in ('gain', 'bias') if hasattr(self, name)]
    return tuple(map(tf.convert_to_tensor, (kernel, *others)))

  def fixed(self, native_kernels=False):
    """-> the map of x [B, n], with weights read and centred now."""
    kernel, *others = self._weights()
    if native_kernels:
      return native.fixed_map(kernel, *others, self.groups)
    after = {'separate': lambda y: recurrence.layer_norm(y, *others, self.groups), 'joint': lambda y: y,
             'none': lambda y: y + others[0]}[self.norm]
    return lambda x: after(recurrence.product(x, kernel, self.dtype))

  def __call__(self, x, *, native_kernels=False, differentiable=True):
    flat = tf.reshape(x, [-1, x.shape[-1]])  # one large product is faster than a batch of small ones
    if native_kernels:
      y = native.linear_map(flat, *self._weights(), self.groups, differentiable=differentiable)
    else:
      y = self.fixed()(flat)
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0))


class RecurrentLayer(tf.Module):
  """A layer of gated cells. Each input comes through one of `input_maps`, for all tokens at once; they are added."""

  def __init__(self, sizes, config, seeds, name):
    """sizes: numbers in each input. seeds: iterator of integers, ten apart."""
    super().__init__(name)
    units, seed = config.units, next(seeds)
    self.config, self.cell = config, cells.CELLS[config.cell]
    self.norm = config.norm if config.layer_norm else 'none'
    maps = len(self.cell.biases)

    def variables(values, what, size=units):
      """A nest of numbers -> of variables [size]."""
      count = itertools.count()
      return tf.nest.map_structure(
          lambda v: tf.Variable(tf.fill([size], v), name=f'{name}_{what}_{next(count)}'), values)

    biases = [getattr(config, flag) if flag else 0.0 for flag in self.cell.biases for _ in range(units)]
    self.input_maps = [
      Map(size, [count * units for count in self.cell.groups], 0.0 if i else biases, next(seeds) if i else seed,
          f'{name}_input_{i}', config.compute_dtype, self.norm) for i, size in enumerate(sizes)]
    square = [keras.initializers.Orthogonal(seed=seed + i)((units, units)) for i in range(1, maps + 1)]
    self.kernel = tf.Variable(tf.concat(square, 1), name=f'{name}_kernel')
    self.gain = variables({'separate': 1.0, 'joint': (1.0, 0.0), 'none': ()}[self.norm], 'gain', maps * units)
    if self.norm == 'joint':
      self.gain[1].assign(biases)
    self.cell_weights = variables(self.cell.own(config), 'cell')
    learned = config.initial_state == 'learned'
    initial = [tf.Variable(tf.zeros(units), trainable=learned, name=f'{name}_initial_{i}')
               for i in range(self.cell.states)]
    self.initial = initial[0] if self.cell.states == 1 else tuple(initial)

  def __call__(self, x, state, draws, layer, **options):
    """x [T, B, kH] or Rows, the sum of `input_maps`; state as `initial`, [B, H] each; draws: dropout.Draws.

    -> outputs [T, B, H], states after each token.
    """
    steps, units = (x.tokens if isinstance(x, recurrence.Rows) else x).shape[0], self.config.units
    kernel = draws.drop_weights('weight_drop', tf.convert_to_tensor(self.kernel), self.kernel.shape[1], layer)
    drawn = [draws.mask(flag, steps, units, layer) for flag in self.cell.masks]
    return recurrence.recurrent_layer(self.cell, x, state, kernel, self.gain, self.cell_weights, drawn, norm=self.norm,
                                      dtype=self.config.compute_dtype, **options)

  def fixed(self, native_kernels=False):
    """-> one token's step, (x, state) -> state, with weights read and centred now; x [B, kH] or Rows."""
    kernel = recurrence.recurrent_weights(self.cell, self.kernel, self.norm)
    kernel, gain, own = tf.nest.map_structure(tf.convert_to_tensor, (kernel, self.gain, self.cell_weights))
    calm = dropout.Draws(self.config, None, training=False)
    factors = [calm.mask(flag, 1, self.config.units, 0).scale for flag in self.cell.masks]
    if native_kernels:
      return native.fixed_gru(kernel, gain, own, factors)
    return lambda x, state: recurrence.step(self.cell, x, state, kernel, gain, own, factors, norm=self.norm,
                                            dtype=self.config.compute_dtype)
