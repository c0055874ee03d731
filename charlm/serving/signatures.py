"""The signatures of a served model: what a client may ask of it.

They hold no jit-compiled function, because TF Serving has XLA switched off by default, and nothing that keeps a state
between requests. The weights are centred and tabulated once, when the model is exported.
"""
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from charlm.generation.prompts import encode_prompt
from charlm.network.model import LanguageModel
from charlm.serving import reading, requests
from charlm.serving.stops import Stops
from charlm.serving.texts import valid_utf8
from charlm.serving.writing import Written, write
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.ragged import join_rows
from flags.serving import ExportConfig

Answer = dict[str, tf.Tensor]
OPTIONS = {'max_new_tokens': tf.int32, 'temperature': tf.float32, 'top_k': tf.int32, 'top_p': tf.float32,
           'seed': tf.int64}


class ServedModel(tf.Module):
  """The signatures. A row's result depends on that row alone, whatever else is in the request.

  Attributes:
    functions: {name: tf.function}, the signatures.
    state_size: D, the numbers of a state.
    libraries: what a Python program has to import beside TensorFlow to load it.
  """

  def __init__(self, model: LanguageModel, tokenizer: Tokenizer, config: ExportConfig):
    """Reads the weights.

    Args:
      model: on a backend that runs in any function.
      tokenizer: the model's.
      config: limits, and what serving_default writes.
    """
    super().__init__('charlm')
    self._tokenizer, self._config, self._by_ids = tokenizer, config, config.text_ops == 'none'
    self._trackable = None if self._by_ids else tokenizer.trackable  # a SavedModel keeps what it can reach from here
    self.libraries = ['tensorflow_text'] if self._trackable else []
    self._weights: list[tf.Variable] = []
    self._reader, self._initial = model.reader(self._hold), model.initial_state(1)
    self._stops = Stops(config.stop_texts, tokenizer.pieces)
    self._start = int(encode_prompt(tokenizer, b'')[0])
    self._sizes = [s.shape[1] for s in tf.nest.flatten(self._initial)]
    self.state_size = sum(self._sizes) + bool(config.stop_texts)
    # Functions of their own, because several signatures call them: the export has them once.
    self._prefill = tf.function(functools.partial(reading.prefill, self._reader), autograph=False)
    self._write = tf.function(functools.partial(write, self._reader, self._stops), autograph=False)
    self.functions = {name: tf.function(_with_defaults(function, self._defaults() if specs[-1].name == 'seed' else []),
                                        input_signature=specs, autograph=False)
                      for name, (function, specs) in self._functions().items()}

  def _functions(self) -> dict[str, tuple[Callable[..., Answer], list[tf.TensorSpec]]]:
    """{name: (function, its inputs)}. An export without text operations has no signature that wants a text."""
    def text(name: str) -> tf.TensorSpec:
      return tf.TensorSpec([None, None], tf.int32, 'tokens') if self._by_ids else tf.TensorSpec([None], tf.string, name)

    state = tf.TensorSpec([None, self.state_size], tf.float32, 'state')
    token, position = (tf.TensorSpec([None], tf.int32, name) for name in ('token', 'position'))
    options = [tf.TensorSpec([None], dtype, name) for name, dtype in OPTIONS.items()]
    functions: dict[str, tuple[Callable[..., Answer], list[tf.TensorSpec]]] = {
      'score': (self.score, [text('text')]), 'prefill': (self.prefill, [text('prompt')]),
      'append': (self.append, [text('prompt'), state]), 'step': (self.step, [token, state]),
      'continue': (self.continue_, [state, position, *options])}
    if not self._by_ids:
      functions |= {'serving_default': (self.serving_default, [text('prompt')]),
                    'generate': (self.generate, [text('prompt'), *options])}
    return functions

  def _defaults(self) -> list[tf.Tensor]:
    """The options of the export, one for all rows: what holds where a client over gRPC leaves them out."""
    c = self._config
    top_k = min(c.top_k, self._reader.vocab_size)  # which a tensor holds
    values = min(c.length, c.max_new_tokens), c.temperature, top_k, c.top_p, c.seed
    return [tf.constant([value], dtype) for value, dtype in zip(values, OPTIONS.values(), strict=True)]

  def _hold(self, weight: tf.Tensor) -> tf.Variable:
    """Weights are variables of the graph, not constants.

    Of constants, a server makes copies when it gets its first request, and a graph holds 2 GB of them at most. 201
    million weights as constants and as variables, in C++, seconds of processors: 6.1 and 0.7 to load, 32 and 0.4 for
    the first request, and as long as each other for later ones; memory 9.6 and 1.2 GB (benchmarks/README.md).
    """
    self._weights.append(tf.Variable(weight, trainable=False, name=f'weight_{len(self._weights)}'))
    return self._weights[-1]

  def serving_default(self, prompt: tf.Tensor) -> Answer:
    """prompt [B] -> text [B], written with the options of the export."""
    return {'text': self.functions['generate'](prompt)['text']}

  def generate(self, prompt: tf.Tensor, max_new_tokens: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor,
               top_p: tf.Tensor, seed: tf.Tensor) -> Answer:
    """Goes on from prompts.

    Args:
      prompt: [B] string.
      max_new_tokens: tokens to write. This and the other options are [B], or [1] for all rows.
      temperature, top_k, top_p, seed: as in `decoding.generate`.

    Returns:
      A dictionary of [B]:
        text: what was written, without the prompt, as valid UTF-8.
        text_bytes: the same as the model wrote it.
        num_tokens: how many tokens were written.
        log_prob: in nats, of the tokens that were written given the prompt.
    """
    prompt = tf.ensure_shape(prompt, [None], 'prompt')
    given = dict(zip(OPTIONS, (max_new_tokens, temperature, top_k, top_p, seed), strict=True))
    options = requests.options_of(given, tf.shape(prompt)[0], self._config)
    ids = self._started(self._encoded('prompt', prompt, options.max_new_tokens))
    state = self._prefill(ids, self._initial_state(ids.nrows()))
    written = self._write(state, tf.zeros_like(options.top_k), options)
    text = self._stops.cut(self._tokenizer.decode_tf(written.tokens), written.stop)
    return {'text': valid_utf8(text), 'text_bytes': text, **_counts(written)}

  def continue_(self, state: tf.Tensor, position: tf.Tensor, max_new_tokens: tf.Tensor, temperature: tf.Tensor,
                top_k: tf.Tensor, top_p: tf.Tensor, seed: tf.Tensor) -> Answer:
    """Goes on from states, a block at a time.

    Args:
      state: [B, D], where the texts stand.
      position: [B] or [1], tokens of the texts that were written before, for the random numbers.
      max_new_tokens, temperature, top_k, top_p, seed: as in `generate`.

    Returns:
      text_bytes, num_tokens and log_prob as in `generate`, and the state. With stop texts, what may turn out to begin
      one is held back; the next block has it, or a block of no tokens, where nothing follows.
    """
    nest, stop = self._unpacked(state)
    given = dict(zip(OPTIONS, (max_new_tokens, temperature, top_k, top_p, seed), strict=True)) | {'position': position}
    options = requests.options_of(given, tf.size(stop), self._config)
    zero = requests.within_batch('max_new_tokens', tf.reduce_sum(options.max_new_tokens), self._config)
    written = self._write(nest, stop + zero, options)
    last = tf.equal(options.max_new_tokens, 0)
    text = self._stops.release(stop, self._tokenizer.decode_tf(written.tokens), written.stop, last)
    after = self._stops.forgotten(written.stop, last)
    return {'text_bytes': text, **_counts(written), 'state': self._packed(written.state, after)}

  def score(self, text: tf.Tensor) -> Answer:
    """How likely texts [B] are, each after an empty prompt.

    Returns:
      A dictionary of [B]: log_prob in nats, and what it is the sum over: num_tokens, num_bytes, num_characters, of the
      text as the tokenizer reads it.
    """
    ids = self._encoded('text', text)
    log_prob = reading.log_probs(self._reader, ids, self._start, self._initial_state(ids.nrows()))
    read = self._tokenizer.decode_tf(ids) if self._by_ids else text
    return {'log_prob': log_prob, 'num_tokens': tf.cast(ids.row_lengths(), tf.int32),
            'num_bytes': tf.strings.length(read), 'num_characters': tf.strings.length(read, 'UTF8_CHAR')}

  def prefill(self, prompt: tf.Tensor) -> Answer:
    """Reads prompts [B] -> state [B, D] after them, log_probs [B, V] of the next token."""
    ids = self._started(self._encoded('prompt', prompt))
    return self._read(ids, self._initial_state(ids.nrows()))

  def append(self, prompt: tf.Tensor, state: tf.Tensor) -> Answer:
    """Reads more text [B] from states [B, D]; as `prefill`. An empty text leaves the state as it is."""
    ids, (nest, _) = self._encoded('prompt', prompt), self._unpacked(state)
    zero = requests.same_rows('state', tf.shape(state), tf.cast(ids.nrows(), tf.int32))
    return self._read(ids.with_values(ids.values + zero), nest)

  def step(self, token: tf.Tensor, state: tf.Tensor) -> Answer:
    """Reads a token [B] from states [B, D] -> as `prefill`, and token_bytes [B]."""
    nest, stop = self._unpacked(state)
    token = requests.known('token', tf.ensure_shape(token, [None], 'token'), self._reader.vocab_size)
    token += requests.same_rows('state', tf.shape(state), tf.size(token))
    nest = self._reader.read(token, nest)
    return {**self._predicted(nest, self._stops.advance(stop, token)),
            'token_bytes': self._tokenizer.decode_tf(token[:, None])}

  def _encoded(self, name: str, text: tf.Tensor, new_tokens: tf.Tensor | None = None) -> tf.RaggedTensor:
    """Texts [B], or rows of ids padded with ids below 0 -> the ids, within the limits."""
    if self._by_ids:
      tokens = tf.ensure_shape(text, [None, None], 'tokens')
      lengths = tf.reduce_sum(tf.cast(tokens >= 0, tf.int32), 1)
      ids = tf.RaggedTensor.from_row_lengths(tokens[tokens >= 0], lengths, validate=False)
      ids = ids.with_values(requests.known('tokens', ids.values, self._reader.vocab_size))
    else:
      ids = self._tokenizer.encode_tf(tf.ensure_shape(text, [None], name))
    return requests.limited(name, ids.with_row_splits_dtype(tf.int64), new_tokens, self._config)

  def _started(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """With the token that stands for an empty prompt in rows without any."""
    empty = tf.cast(tf.equal(ids.row_lengths(), 0), tf.int64)
    start = tf.fill([tf.reduce_sum(empty)], self._start)
    return join_rows(ids, tf.RaggedTensor.from_row_lengths(start, empty, validate=False))

  def _initial_state(self, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda s: tf.repeat(s, rows, 0), self._initial)

  def _read(self, ids: tf.RaggedTensor, state: Any) -> Answer:
    state = self._prefill(ids, state)
    return self._predicted(state, tf.zeros([ids.nrows()], tf.int32))

  def _predicted(self, state: Any, stop: tf.Tensor) -> Answer:
    return {'state': self._packed(state, stop), 'log_probs': tf.nn.log_softmax(self._reader.logits(state))}

  def _packed(self, state: Any, stop: tf.Tensor) -> tf.Tensor:
    """The network's state, and how far each text is on its way to a stop text -> [B, D]."""
    extra = [tf.cast(stop, tf.float32)[:, None]] if self._stops.texts else []
    return tf.concat([*tf.nest.flatten(state), *extra], 1)

  def _unpacked(self, state: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """The inverse of `_packed`, of a state that a client sent."""
    state = requests.finite('state', tf.ensure_shape(state, [None, self.state_size], 'state'))
    *parts, extra = tf.split(state, [*self._sizes, self.state_size - sum(self._sizes)], 1)
    stop = tf.cast(tf.round(extra[:, 0]), tf.int32) if self._stops.texts else tf.zeros([tf.shape(state)[0]], tf.int32)
    return tf.nest.pack_sequence_as(self._initial, parts), tf.clip_by_value(stop, 0, self._stops.stopped)


def _counts(written: Written) -> Answer:
  return {'num_tokens': tf.cast(written.tokens.row_lengths(), tf.int32), 'log_prob': written.log_prob}


def _with_defaults(function: Callable[..., Answer], values: Sequence[tf.Tensor]) -> Callable[..., Answer]:
  """The function with default values for its last arguments, which TensorFlow writes into the signature."""
  @functools.wraps(function)
  def given(*inputs: tf.Tensor) -> Answer:
    return function(*inputs)

  parameters = [*inspect.signature(function).parameters.values()]
  first = len(parameters) - len(values)
  last = [p.replace(default=value) for p, value in zip(parameters[first:], values, strict=True)]
  given.__signature__ = inspect.Signature([*parameters[:first], *last])  # type: ignore[attr-defined]
  return given
