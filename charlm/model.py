"""The language model: embedding, feed-forward layers, stacked layer-norm GRUs, summed outputs, logits."""
import itertools

import keras
import tensorflow as tf

from charlm import cells, native, recurrence
from charlm.config import ModelConfig


class Map(tf.Module):
  """A linear map with layer norm: x [.., n] -> LN(x W; gain) + bias [.., sum(groups)]."""

  def __init__(self, size, groups, bias, seed, name, dtype):
    super().__init__(name)
    self.groups, self.dtype = tuple(groups), dtype
    units = sum(self.groups)
    self.kernel = tf.Variable(keras.initializers.GlorotUniform(seed)((size, units)), name=f'{name}_kernel')
    self.gain = tf.Variable(tf.ones(units), name=f'{name}_gain')
    self.bias = tf.Variable(tf.constant(bias, tf.float32, [units]), name=f'{name}_bias')

  def _weights(self):
    return recurrence.centre(self.kernel, self.groups), *map(tf.convert_to_tensor, (self.gain, self.bias))

  def fixed(self, native_kernels=False):
    """-> the map of x [B, n], with weights read and centred now."""
    kernel, gain, bias = self._weights()
    if native_kernels:
      return native.fixed_map(kernel, gain, bias, self.groups)
    return lambda x: recurrence.layer_norm(recurrence.product(x, kernel, self.dtype), gain, bias, self.groups)

  def __call__(self, x, *, native_kernels=False, differentiable=True):
    flat = tf.reshape(x, [-1, x.shape[-1]])  # one large product is faster than a batch of small ones
    if native_kernels:
      y = native.linear_map(flat, *self._weights(), self.groups, differentiable=differentiable)
    else:
      y = self.fixed()(flat)
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0))


class RecurrentLayer(tf.Module):
  """A layer-norm GRU layer. Its input comes through `input_map`, for all tokens at once."""

  def __init__(self, size, config, seed, name):
    super().__init__(name)
    units = config.units
    self.cell, self.zoneout, self.dtype = cells.GRU, config.zoneout, config.compute_dtype
    groups = [count * units for count in self.cell.groups]
    biases = [config.reset_bias] * units + [config.update_bias] * units + [0.0] * units
    self.input_map = Map(size, groups, biases, seed, f'{name}_input', self.dtype)
    square = [keras.initializers.Orthogonal(seed=seed + i)((units, units)) for i in range(1, 4)]
    self.kernel = tf.Variable(tf.concat(square, 1), name=f'{name}_kernel')
    self.gain = tf.Variable(tf.ones(3 * units), name=f'{name}_gain')
    self.bias = tf.Variable(tf.zeros(units), name=f'{name}_bias')
    learned = config.initial_state == 'learned'
    self.initial = tf.Variable(tf.zeros(units), trainable=learned, name=f'{name}_initial')

  def __call__(self, x, state, masks, **options):
    """x [T, B, 3H] from `input_map`, state [B, H] -> outputs [T, B, H], states after each token."""
    return recurrence.recurrent_layer(self.cell, x, state, self.kernel, self.gain, self.bias, masks, dtype=self.dtype,
                                      **options)

  def fixed(self, native_kernels=False):
    """-> one token's step, (x, state [B, H]) -> state, with weights read and centred now; x [B, 3H] or Rows."""
    kernel = recurrence.centre(self.kernel, self.input_map.groups)
    gain, bias = map(tf.convert_to_tensor, (self.gain, self.bias))
    factors = (1 - drawn(self.zoneout), 1.0)
    if native_kernels:
      return native.fixed_gru(kernel, gain, bias, factors)
    return lambda x, state: recurrence.step(self.cell, x, state, kernel, gain, bias, factors, self.dtype)


class LanguageModel(tf.Module):
  """tokens [B, T], state -> logits [B, T, V], and the state.

  Source of the structure: Hafner, "Tips for Training Recurrent Neural Networks" (2017).
  """

  def __init__(self, config: ModelConfig, vocab_size, seed=0):
    super().__init__('language_model')
    self.config, self.vocab_size = config, vocab_size
    seeds = itertools.count(seed * 1000, 10)
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds))
    self.embedding = tf.Variable(normal((vocab_size, config.embedding_size)), name='embedding')
    size, self.input_layers, self.recurrent_layers = config.embedding_size, [], []
    for i in range(config.input_layers):
      self.input_layers.append(Map(size, [config.input_units], 0.0, next(seeds), f'input_{i}', config.compute_dtype))
      size = config.input_units
    for i in range(config.layers):
      self.recurrent_layers.append(RecurrentLayer(size, config, next(seeds), f'recurrent_{i}'))
      size = config.units
    glorot = keras.initializers.GlorotUniform(next(seeds))
    self.output_kernel = tf.Variable(glorot((config.units, vocab_size)), name='output_kernel')
    self.output_bias = tf.Variable(tf.zeros(vocab_size), name='output_bias')

  def initial_state(self, batch_size):
    """-> the state where text begins: a tuple of [B, H], one per layer."""
    return tuple(tf.repeat(layer.initial[None], batch_size, 0) for layer in self.recurrent_layers)

  def reset(self, state, rows):
    """The state, with the initial one in each row where rows [B] is true."""
    initial = self.initial_state(tf.shape(rows)[0])
    return tf.nest.map_structure(lambda s, i: tf.where(rows[:, None], i, s), state, initial)

  def _product(self, a, b):
    return recurrence.product(a, b, self.config.compute_dtype)

  def _first_map(self, embedded):
    """[.., E] -> the first recurrent layer's input map [.., 3H], which depends on the token alone."""
    for layer in self.input_layers:
      embedded = tf.tanh(layer(embedded))
    return self.recurrent_layers[0].input_map(embedded)

  def _first_input(self, tokens):
    """[T, B] -> recurrence.Rows of a table of V rows, or [T, B, 3H] token by token where the chunk has fewer."""
    count = tokens.shape.num_elements()
    if count is not None and count < self.vocab_size:
      return self._first_map(tf.gather(self.embedding, tokens))
    return recurrence.Rows(self._first_map(self.embedding), tokens)

  def __call__(self, tokens, state, *, training=False, seed=None, rows=None, native_kernels=False,
               differentiable=None, starts=None):
    """Reads tokens.

    Args:
      tokens: [B, T] int32.
      state: as from `initial_state`.
      training: whether to mask and drop.
      seed: [2] int32, (seed, step), what masks and dropout follow from; needed in training with either.
      rows: (first, total): the place of these B rows in the batch of all replicas, so that any number of
        replicas drops the same outputs. All B of B by default.
      native_kernels: whether to use native.py, inside a jit-compiled function with static shapes on a CPU.
      differentiable: whether a gradient will be taken; as `training` by default.
      starts: [B, T] bool, tokens that are read from the initial state, or None.

    Returns:
      logits [B, T, V] float32, states after each token (a tuple of [T, B, H]), the state after the last one.
    """
    config, count = self.config, len(self.recurrent_layers)
    how = {'native_kernels': native_kernels, 'differentiable': training if differentiable is None else differentiable}

    def draw(kind, rate, layer):
      """What stays of the layer's units, None where that is all; of three kinds, which follow from other seeds."""
      if training and rate:
        size = (*tokens.shape[::-1], config.units)
        return kept(size, rate, (seed[0], (3 * seed[1] + kind) * count + layer), rows or (0, size[1]))

    y, total, states = None, 0.0, []
    initial = None if starts is None else self.initial_state(tf.shape(tokens)[0])
    for i, (layer, start) in enumerate(zip(self.recurrent_layers, state, strict=True)):
      x = layer.input_map(y, **how) if i else self._first_input(tf.transpose(tokens))
      masks = [cells.Mask(draw(0, config.zoneout, i), 1.0 if training else 1 - drawn(config.zoneout)),
               cells.Mask(draw(1, config.recurrent_dropout, i), up(config.recurrent_dropout) if training else 1.0)]
      at = initial and recurrence.Starts(tf.transpose(starts), initial[i])
      y, after = layer(x, start, masks, starts=at, **how)
      states.append(after)
      stays = draw(2, config.dropout, i)
      if stays is not None:
        y = tf.where(stays, y * up(config.dropout), 0.0)
      total += y
    matmul = native.matmul if native_kernels else self._product
    logits = matmul(tf.reshape(total, [-1, self.config.units]), self.output_kernel) + self.output_bias
    logits = tf.reshape(logits, tf.concat([tf.shape(total)[:-1], [self.vocab_size]], 0))
    return tf.transpose(logits, [1, 0, 2]), tuple(states), tuple(s[-1] for s in states)

  def stepper(self, native_kernels=False):
    """-> advance: (tokens [B], state) -> (logits [B, V], state), for a loop that writes text.

    What does not depend on the token is done here, once: the weights are read and centred, and the first map
    becomes a table of V rows. Later changes of the weights do not reach `advance`. With native_kernels it belongs
    inside a jit-compiled function, for a known number of rows.
    """
    table = self._first_map(self.embedding)
    maps = [layer.input_map.fixed(native_kernels) for layer in self.recurrent_layers[1:]]
    steps = [layer.fixed(native_kernels) for layer in self.recurrent_layers]
    kernel, bias = map(tf.convert_to_tensor, (self.output_kernel, self.output_bias))
    multiply = native.fixed_product(kernel) if native_kernels else lambda x: self._product(x, kernel)

    def advance(tokens, state):
      after = [steps[0](recurrence.Rows(table, tokens), state[0])]
      for input_map, step, start in zip(maps, steps[1:], state[1:], strict=True):
        after.append(step(input_map(after[-1]), start))
      return multiply(tf.add_n(after)) + bias, tuple(after)

    return advance


def kept(size, rate, seed, rows):
  """Which numbers stay: size (T, B, H) -> [T, B, H] bool, true with probability 1 - rate.

  Those of the whole batch are drawn and these rows taken. A number takes 8 of the 32 bits of a draw. alg='philox' is
  named because XLA on a CPU is 60 times slower with the default.
  """
  (steps, count, units), (first, total) = size, rows
  draws = tf.random.stateless_uniform([steps, total, -(-units // 4)], seed, None, None, tf.int32, alg='philox')
  draws = tf.slice(draws, [0, first, 0], [steps, count, -1])
  numbers = tf.reshape(tf.bitcast(draws, tf.uint8), [steps, count, -1])[..., :units]
  return numbers >= round(256 * rate)


def drawn(rate):
  """The share that `kept` drops, which is a multiple of 1/256."""
  return round(256 * rate) / 256


def up(rate):
  """What the numbers that stay are multiplied with, so that the mean stays too."""
  return 1 / (1 - drawn(rate))
