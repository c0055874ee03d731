"""The language model: embedding, feed-forward layers, stacked recurrent layers, their outputs combined, logits.

Source of the structure: Hafner, "Tips for Training Recurrent Neural Networks" (2017).
"""
import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from charlm.network import layers, wiring
from charlm.network.backend import base
from charlm.network.backend.packed import PackedStepping, Packing
from charlm.network.backend.xla import XlaBackend
from charlm.network.dropout import Dropout, Noise
from charlm.network.recurrence import Lookup, Resets, add_projections
from flags.network import ModelConfig

NOISE_STDDEV = 0.1  # of --initial_state=noise; its help says so too

# (tokens [B] int32, or probabilities [B, V] of them; state) -> (logits [B, V], state)
Step = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]


class Outputs(NamedTuple):
  """What the model makes of T tokens."""
  logits: tf.Tensor  # [B, T, V] float32
  features: tf.Tensor  # [T, B, n], what the logits are made of
  states: Any  # after each token: a nest like the state's, of [T, B, H]


class Reader(NamedTuple):
  """The model in core operations, its weights read once: for programs without XLA. The logits follow from the state."""
  read: Callable[..., Any]  # (tokens, state, packing=None) -> states after each token, as `PackedStepping` has them
  logits: Callable[[Any], tf.Tensor]  # state, a nest of [B, H] -> [B, V] of the next token
  vocab_size: int
  compute_dtype: str


class _Prepared(NamedTuple):
  """The network with its weights read."""
  entries: Callable[[tf.Tensor], list[list[Any]]]  # tokens -> for each layer its projection of them: [x], or []
  projections: list[list[base.Linear]]  # of each layer: of the outputs below it
  layers: list[base.Recurrent]
  logits: base.Linear  # features [.., n] -> [.., V]


class LanguageModel(tf.Module):
  """Reads tokens and predicts the next: `model(tokens, state) -> (outputs, state)`."""

  def __init__(self, config: ModelConfig, vocab_size: int, *, seed: int = 0, backend: base.Backend | None = None):
    """backend: what computes it; TensorFlow's own operations by default."""
    super().__init__('language_model')
    self.config, self.vocab_size = config, vocab_size
    self.backend = backend or XlaBackend(config.compute_dtype)
    seeds = itertools.count(seed * 1000, 10)
    # Tied, it also makes the logits, which should start small.
    stddev = config.embedding_size**-0.5 if config.tie_embeddings else 1.0
    normal = keras.initializers.RandomNormal(stddev=stddev, seed=next(seeds))
    self.embedding = tf.Variable(normal((vocab_size, config.embedding_size)), name='embedding')
    size, self.input_layers, self.recurrent_layers = config.embedding_size, [], []
    for i in range(config.input_layers):
      self.input_layers.append(layers.Linear(size, [config.input_units], 0.0, next(seeds), f'input_{i}',
                                             'separate' if config.layer_norm else 'none'))
      size = config.input_units
    like, self.reads_entry = tf.zeros([0, config.units]), []
    for i in range(config.layers):
      reads_entry, others = wiring.inputs(config.wiring, [like] * i)
      self.reads_entry.append(reads_entry)
      sizes = [size] * reads_entry + [y.shape[-1] for y in others]
      self.recurrent_layers.append(layers.RecurrentLayer(sizes, config, seeds, f'recurrent_{i}'))
    glorot, features = keras.initializers.GlorotUniform(next(seeds)), self._combine([like] * config.layers).shape[-1]
    if not config.tie_embeddings:
      self.output_kernel = tf.Variable(glorot((features, vocab_size)), name='output_kernel')
    elif features != config.embedding_size:
      self.output_projection = tf.Variable(glorot((features, config.embedding_size)), name='output_projection')
    self.output_bias = tf.Variable(tf.zeros(vocab_size), name='output_bias')

  def with_backend(self, backend: base.Backend) -> 'LanguageModel':
    """The same weights, computed by another backend."""
    other = copy.copy(self)
    other.backend = backend
    return other

  def portable(self) -> 'LanguageModel':
    """The same weights, computed by TensorFlow's own operations: in any function, and with the gradient of autodiff."""
    return self.with_backend(XlaBackend(self.config.compute_dtype))

  def initial_state(self, batch_size: int | tf.Tensor, noise: Noise | None = None) -> tuple:
    """The state where text begins: for each layer [B, H], or a tuple of such.

    noise: of a training step, which --initial_state=noise adds.
    """
    initial = tuple(layer.initial for layer in self.recurrent_layers)
    if noise is None or self.config.initial_state != 'noise':
      return tf.nest.map_structure(lambda v: tf.repeat(v[None], batch_size, 0), initial)
    count = len(tf.nest.flatten(initial))
    numbers = NOISE_STDDEV * noise.normal('initial_state', batch_size, self.config.units * count)
    return tf.nest.pack_sequence_as(initial, tf.split(numbers, count, -1))

  def reset(self, state: Any, rows: tf.Tensor, noise: Noise | None = None) -> Any:
    """The state, with the initial one in each row where rows [B] is true.

    noise: of a training step, in which rows are also reset with --reset_probability.
    """
    batch_size = tf.shape(rows)[0] if rows.shape[0] is None else rows.shape[0]
    initial = self.initial_state(batch_size, noise)
    if noise is not None and self.config.reset_probability:
      rows |= noise.uniform('reset_probability', batch_size) < self.config.reset_probability
    return tf.nest.map_structure(lambda s, i: tf.where(rows[:, None], i, s), state, initial)

  def __call__(self, tokens: tf.Tensor, state: Any, noise: Noise | None = None,
               resets: tf.Tensor | None = None) -> tuple[Outputs, Any]:
    """Reads T tokens of each row.

    Args:
      tokens: [B, T] int32.
      state: as from `initial_state`.
      noise: of a training step; None evaluates.
      resets: [B, T] bool, tokens that are read from the initial state, or None.

    Returns:
      outputs, and the state after the last token.
    """
    tokens, dropout, at = tf.convert_to_tensor(tokens), Dropout(self.config, noise), None
    if resets is not None:
      rows = tf.shape(tokens)[0] if tokens.shape[0] is None else tokens.shape[0]
      at = [Resets(tf.transpose(resets), s) for s in self.initial_state(rows, noise)]
    prepared = self._prepare(self.backend, self.backend, dropout, tokens.shape.num_elements())
    outputs = self._read(prepared, tf.transpose(tokens), state, dropout, at)
    logits = tf.transpose(outputs.logits, [1, 0, 2])
    return outputs._replace(logits=logits), tf.nest.map_structure(lambda s: s[-1], outputs.states)

  def stepper(self, table: bool = True) -> Step:
    """The model for loops that write text, one token of each row at a time.

    The weights are read, centred and packed here, once, and what follows from a token alone becomes a table of V rows.
    Later changes of the weights do not reach the step. A native backend belongs inside a jit-compiled function, for a
    known number of rows, and has no gradient; the gradient of XLA's is that of autodiff.

    Given probabilities in place of tokens, the step reads the expected embedding.

    table: false computes what follows from a token at each step: less room where the vocabulary is large, for tokens
    alone.
    """
    calm = Dropout(self.config)
    prepared = self._prepare(self.backend.stepping(), XlaBackend(self.config.compute_dtype).stepping(), calm,
                             None if table else 1)

    def step(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
      outputs = self._read(prepared, tokens, state, calm, None)
      return outputs.logits, outputs.states

    return step

  def reader(self, hold: Callable[[tf.Tensor], Any] | None = None) -> Reader:
    """The model for texts of different lengths, side by side. Later changes of the weights do not reach it.

    hold: what holds a prepared weight, as of `PackedStepping`; None: a tensor.
    """
    calm, dtype, hold = Dropout(self.config), self.config.compute_dtype, hold or tf.convert_to_tensor
    prepared = self._prepare(PackedStepping(dtype, hold=hold), XlaBackend(dtype).stepping(), calm, None, hold)
    packed: list[Any] = [*prepared.layers]  # of this backend: they take a packing, too

    def read(tokens: tf.Tensor, state: Any, packing: Packing | None = None) -> Any:
      layers: list[Any] = [functools.partial(layer, packing=packing) for layer in packed]
      return self._features(prepared._replace(layers=layers), tokens, state, calm, None)[1]

    def logits(state: Any) -> tf.Tensor:
      return prepared.logits(self._combine([tf.nest.flatten(s)[0] for s in state]))

    return Reader(read, logits, self.vocab_size, dtype)

  def _read(self, prepared: _Prepared, tokens: tf.Tensor, state: Any, dropout: Dropout,
            resets: list[Resets] | None) -> Outputs:
    """The forward pass: tokens [T, B], or [B] of a backend that is stepping. -> Outputs, time first."""
    features, states = self._features(prepared, tokens, state, dropout, resets)
    return Outputs(prepared.logits(features), features, states)

  def _features(self, prepared: _Prepared, tokens: tf.Tensor, state: Any, dropout: Dropout,
                resets: list[Resets] | None) -> tuple[tf.Tensor, Any]:
    """-> what the logits of each token are made of, and the states after each token."""
    outputs: list[tf.Tensor] = []
    upward: list[tf.Tensor] = []
    states = []
    for i, (entry, layer) in enumerate(zip(prepared.entries(tokens), prepared.layers, strict=True)):
      _, others = wiring.inputs(self.config.wiring, upward)
      x = [*entry, *(project(y) for project, y in zip(prepared.projections[i], others, strict=True))]
      y, after = layer(add_projections(x), state[i], resets[i] if resets else None)
      states.append(after)
      outputs.append(dropout.drop('dropout', y, i))
      upward.append(dropout.drop('layer_dropout', outputs[-1], i))
    return dropout.drop('output_dropout', self._combine(outputs)), tuple(states)

  def _combine(self, outputs: list[tf.Tensor]) -> tf.Tensor:
    return wiring.combine(self.config.combine, self.config.wiring, outputs)

  def _prepare(self, backend: base.Backend, entry_backend: base.Backend, dropout: Dropout, count: int | None,
               hold: Callable[[tf.Tensor], Any] = tf.convert_to_tensor) -> _Prepared:
    """Reads the weights.

    Args:
      backend: computes.
      entry_backend: computes projections of tokens.
      dropout: of the pass.
      count: of tokens in a pass; None: any number.
      hold: holds tables and the bias of the logits, as `backend` holds the rest.
    """
    entry = [[p.prepare(entry_backend) for p in layer.projections[:reads]]
             for layer, reads in zip(self.recurrent_layers, self.reads_entry, strict=True)]
    return _Prepared(
        self._entries(entry, dropout, hold, few=count is not None and count < self.vocab_size),
        [[p.prepare(backend) for p in layer.projections[reads:]]
         for layer, reads in zip(self.recurrent_layers, self.reads_entry, strict=True)],
        [layer.prepare(backend, dropout, i) for i, layer in enumerate(self.recurrent_layers)],
        self._logits(backend, hold))

  def _entries(self, projections: list[list[base.Linear]], dropout: Dropout, hold: Callable[[tf.Tensor], Any],
               few: bool) -> Callable[[tf.Tensor], list[list[Any]]]:
    """-> tokens -> their projections for each layer, Lookups in a table of V rows where that is less work.

    There is no table where a pass has fewer tokens than V, nor where the entry of each is dropped by itself.
    """
    embedding = dropout.drop_weights('embedding_dropout', tf.convert_to_tensor(self.embedding), 1)
    xla = XlaBackend(self.config.compute_dtype)
    feed_forward = [layer.prepare(xla) for layer in self.input_layers]

    def enter(embedded: tf.Tensor) -> tf.Tensor:
      """[.., E] -> what the recurrent layers read of a token."""
      for layer in feed_forward:
        embedded = tf.tanh(layer(embedded))
      return embedded

    def project(x: tf.Tensor) -> list[list[tf.Tensor]]:
      return [[linear(x) for linear in layer] for layer in projections]

    if few:
      return lambda tokens: project(dropout.drop('input_dropout', enter(tf.gather(embedding, tokens))))
    vocabulary = enter(embedding)
    if dropout.drops('input_dropout'):
      return lambda tokens: project(dropout.drop('input_dropout', tf.gather(vocabulary, tokens)))
    tables = tf.nest.map_structure(hold, project(vocabulary))

    def entries(tokens: tf.Tensor) -> list[list[Any]]:
      if tokens.dtype.is_floating:
        return project(enter(xla.product(tokens, embedding)))
      return [[Lookup(table, tokens) for table in layer] for layer in tables]

    return entries

  def _logits(self, backend: base.Backend, hold: Callable[[tf.Tensor], Any]) -> base.Linear:
    """-> features [.., n] -> logits [.., V]."""
    if self.config.tie_embeddings:
      projection = [tf.convert_to_tensor(self.output_projection)] if hasattr(self, 'output_projection') else []
      matrices = [*projection, tf.transpose(self.embedding)]
    else:
      matrices = [tf.convert_to_tensor(self.output_kernel)]
    products, bias = [backend.matmul(matrix) for matrix in matrices], hold(tf.convert_to_tensor(self.output_bias))

    def logits(features: tf.Tensor) -> tf.Tensor:
      for product in products:
        features = product(features)
      return features + bias

    return lambda features: base.over_rows(logits, features)
