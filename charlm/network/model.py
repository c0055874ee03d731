"""The language model: embedding, feed-forward layers, stacked recurrent layers, their outputs combined, logits."""
import functools
import itertools

import keras
import tensorflow as tf

from charlm.network import dropout, layers, native, recurrence
from flags.network import ModelConfig

NOISE_STDDEV = 0.1  # of --initial_state=noise; config.py says it too


def below(wiring, outputs):
  """What the next recurrent layer reads, of the outputs h_1, .., h_i [.., H] of those below it and of the entry x.

      plain      h_i
      residual   h_1 + .. + h_i                                He et al. 2016
      dense      x; h_1; ..; h_i                               Huang et al. 2017
      dual_path  x; a_1 + .. + a_i; b_1; ..; b_i               Chen et al. 2017; a_j, b_j: the halves of h_j's units

  The first layer reads x. -> whether x is read, and the other inputs; each has a map of its own.
  """
  if not outputs:
    return True, []
  if wiring in ('plain', 'residual'):
    return False, [outputs[-1] if wiring == 'plain' else tf.add_n(outputs)]
  if wiring == 'dense':
    return True, outputs
  half = outputs[0].shape[-1] // 2
  return True, [tf.add_n([h[..., :half] for h in outputs]), *(h[..., half:] for h in outputs)]


def combined(combine, wiring, outputs):
  """What the logits read of the outputs y_1, .., y_L [.., H] of all layers: sum, last or concat, [.., H or L H].

  y_i = h_i; with --wiring=residual y_i = y_(i-1) + h_i, where there is a layer below.
  """
  if wiring == 'residual':
    outputs = list(itertools.accumulate(outputs))
  return {'sum': tf.add_n, 'last': lambda y: y[-1], 'concat': lambda y: tf.concat(y, -1)}[combine](outputs)


class LanguageModel(tf.Module):
  """tokens [B, T], state -> logits [B, T, V], and the state.

  Source of the structure: Hafner, "Tips for Training Recurrent Neural Networks" (2017).
  """

  def __init__(self, config: ModelConfig, vocab_size, seed=0):
    super().__init__('language_model')
    self.config, self.vocab_size = config, vocab_size
    seeds = itertools.count(seed * 1000, 10)
    # Tied, it also makes the logits, which should start small.
    stddev = config.embedding_size**-0.5 if config.tie_embeddings else 1.0
    normal = keras.initializers.RandomNormal(stddev=stddev, seed=next(seeds))
    self.embedding = tf.Variable(normal((vocab_size, config.embedding_size)), name='embedding')
    size, self.input_layers, self.recurrent_layers = config.embedding_size, [], []
    for i in range(config.input_layers):
      self.input_layers.append(layers.Map(size, [config.input_units], 0.0, next(seeds), f'input_{i}',
                                          config.compute_dtype, 'separate' if config.layer_norm else 'none'))
      size = config.input_units
    like, self.reads_entry = tf.zeros([0, config.units]), []
    for i in range(config.layers):
      reads_entry, others = below(config.wiring, [like] * i)
      self.reads_entry.append(reads_entry)
      sizes = [size] * reads_entry + [y.shape[-1] for y in others]
      self.recurrent_layers.append(layers.RecurrentLayer(sizes, config, seeds, f'recurrent_{i}'))
    glorot, features = keras.initializers.GlorotUniform(next(seeds)), self._combined([like] * config.layers).shape[-1]
    if not config.tie_embeddings:
      self.output_kernel = tf.Variable(glorot((features, vocab_size)), name='output_kernel')
    elif features != config.embedding_size:
      self.output_projection = tf.Variable(glorot((features, config.embedding_size)), name='output_projection')
    self.output_bias = tf.Variable(tf.zeros(vocab_size), name='output_bias')

  def initial_state(self, batch_size, draws=None):
    """-> the state where text begins: a tuple with one entry per layer, [B, H] or a tuple of such.

    With the noise that --initial_state asks for where there are the dropout.Draws of a training step.
    """
    initial = tuple(layer.initial for layer in self.recurrent_layers)
    if not draws or not draws.training or self.config.initial_state != 'noise':
      return tf.nest.map_structure(lambda v: tf.repeat(v[None], batch_size, 0), initial)
    count = len(tf.nest.flatten(initial))
    noise = NOISE_STDDEV * draws.noise('initial_state', self.config.units * count)
    return tf.nest.pack_sequence_as(initial, tf.split(noise, count, -1))

  def reset(self, state, rows, *, seed=None, place=None):
    """The state, with the initial one in each row where rows [B] is true.

    In training, where there is a `seed`, also in the rows that --reset_probability draws, and with the noise that
    --initial_state asks for. seed, place: as seed and rows of `__call__`.
    """
    draws = dropout.Draws(self.config, rows.shape[0], training=seed is not None, seed=seed, rows=place)
    initial = self.initial_state(tf.shape(rows)[0], draws)
    if draws.drops('reset_probability'):
      rows |= draws.chosen('reset_probability')
    return tf.nest.map_structure(lambda s, i: tf.where(rows[:, None], i, s), state, initial)

  def _product(self, a, b):
    return recurrence.product(a, b, self.config.compute_dtype)

  def _combined(self, outputs):
    return combined(self.config.combine, self.config.wiring, outputs)

  def _enter(self, embedded):
    """[.., E] -> what the first recurrent layer reads, which depends on the token alone."""
    for layer in self.input_layers:
      embedded = tf.tanh(layer(embedded))
    return embedded

  def _entry(self, tokens, draws, how):
    """tokens [T, B] -> Map -> its map of the entry: [T, B, kH], or Rows of a table where that is less work.

    A table has V rows, and cannot be where the chunk has fewer tokens, or where each is dropped by itself.
    """
    embedding = draws.drop_weights('embedding_dropout', tf.convert_to_tensor(self.embedding), 1)
    count = tokens.shape.num_elements()
    few = count is not None and count < self.vocab_size
    entry = self._enter(tf.gather(embedding, tokens) if few else embedding)
    if draws.drops('input_dropout'):
      entry = draws.drop('input_dropout', entry if few else tf.gather(entry, tokens))
      return lambda linear: linear(entry, **how)
    return lambda linear: linear(entry, **how) if few else recurrence.Rows(linear(entry, **how), tokens)

  def read(self, tokens, state, *, training=False, seed=None, rows=None, native_kernels=False, differentiable=None,
           starts=None):
    """As `__call__`, up to what the logits are made of: features [T, B, n] instead of logits."""
    config, draws = self.config, dropout.Draws(self.config, tokens.shape[0], training=training, seed=seed, rows=rows)
    how = {'native_kernels': native_kernels, 'differentiable': training if differentiable is None else differentiable}
    initial = None if starts is None else self.initial_state(tf.shape(tokens)[0], draws)
    entry = self._entry(tf.transpose(tokens), draws, how)
    outputs, upward, states = [], [], []
    for i, (layer, start) in enumerate(zip(self.recurrent_layers, state, strict=True)):
      reads_entry, others = below(config.wiring, upward)
      linear = iter(layer.input_maps)
      x = [entry(next(linear))] if reads_entry else []
      x += [m(y, **how) for m, y in zip(linear, others, strict=True)]
      at = initial and recurrence.Starts(tf.transpose(starts), initial[i])
      y, after = layer(recurrence.added(x), start, draws, i, starts=at, **how)
      states.append(after)
      outputs.append(draws.drop('dropout', y, i))
      upward.append(draws.drop('layer_dropout', outputs[-1], i))
    features = draws.drop('output_dropout', self._combined(outputs))
    return features, tuple(states), tf.nest.map_structure(lambda s: s[-1], tuple(states))

  def _output_weights(self):
    """-> the matrices that turn features into logits, one after the other; the bias."""
    if not self.config.tie_embeddings:
      return [tf.convert_to_tensor(self.output_kernel)], tf.convert_to_tensor(self.output_bias)
    projection = [tf.convert_to_tensor(self.output_projection)] if hasattr(self, 'output_projection') else []
    return [*projection, tf.transpose(self.embedding)], tf.convert_to_tensor(self.output_bias)

  def logits(self, features, native_kernels=False):
    """features [T, B, n] -> [B, T, V]."""
    matrices, bias = self._output_weights()
    flat = tf.reshape(features, [-1, features.shape[-1]])
    for matrix in matrices:
      flat = (native.matmul if native_kernels else self._product)(flat, matrix)
    logits = tf.reshape(flat + bias, tf.concat([tf.shape(features)[:-1], [self.vocab_size]], 0))
    return tf.transpose(logits, [1, 0, 2])

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
      logits [B, T, V] float32, states after each token (as `initial_state`, of [T, B, H]), the state after the last.
    """
    features, states, last = self.read(tokens, state, training=training, seed=seed, rows=rows,
                                       native_kernels=native_kernels, differentiable=differentiable, starts=starts)
    return self.logits(features, native_kernels), states, last

  def stepper(self, native_kernels=False):
    """-> advance: (tokens [B], state) -> (logits [B, V], state), for a loop that writes text.

    What does not depend on the token is done here, once: the weights are read and centred, and the first map
    becomes a table of V rows. Later changes of the weights do not reach `advance`. With native_kernels it belongs
    inside a jit-compiled function, for a known number of rows; without, autodiff takes its gradient.

    Instead of tokens `advance` takes probabilities [B, V] of them, too, and reads the expected embedding.
    """
    config, embedding = self.config, tf.convert_to_tensor(self.embedding)
    entry = self._enter(embedding)
    steps, entries, tables, maps = [], [], [], []
    for reads_entry, layer in zip(self.reads_entry, self.recurrent_layers, strict=True):
      steps.append(layer.fixed(native_kernels))
      entries.append([m.fixed() for m in layer.input_maps[:reads_entry]])
      tables.append([m(entry) for m in entries[-1]])
      maps.append([m.fixed(native_kernels) for m in layer.input_maps[reads_entry:]])
    matrices, bias = self._output_weights()
    products = [native.fixed_product(m) if native_kernels else functools.partial(self._product, b=m) for m in matrices]

    def advance(tokens, state):
      if tokens.dtype.is_integer:
        x_of = [[recurrence.Rows(table, tokens) for table in layer] for layer in tables]
      else:
        expected = self._enter(self._product(tokens, embedding))
        x_of = [[m(expected) for m in layer] for layer in entries]
      outputs, after = [], []
      for step, x, linear, start in zip(steps, x_of, maps, state, strict=True):
        _, others = below(config.wiring, outputs)
        x = [*x, *(m(y) for m, y in zip(linear, others, strict=True))]
        after.append(step(recurrence.added(x), start))
        outputs.append(tf.nest.flatten(after[-1])[0])
      logits = self._combined(outputs)
      for product in products:
        logits = product(logits)
      return logits + bias, tuple(after)

    return advance
