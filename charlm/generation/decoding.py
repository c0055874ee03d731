"""Writing text: in a graph from any step function, and from a model for the commands.

`advance: (tokens [B], state) -> (logits [B, V], state)` is all that `generate` and `prefill` know of a model. Each
row has its own stream of random numbers, one number per token, that follows from the row's seed and the
token's place in the text. So a row's text does not depend on the other rows, nor on the number of calls that
write it (but for what rounding does to two tokens that are next to equally likely).
"""
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from flags.errors import RunError

BLOCK = 64  # random numbers that one draw makes; changing it changes every text
AT_ONCE = 64  # tokens that a compiled call writes at most
READ_TOKENS = 2048  # of a long prompt in one call, so that Ctrl-C need not wait for all of it
GREEDY = 1e30  # the inverse of temperature 0: softmax leaves nothing to any token but the most likely


class Written(NamedTuple):
  """What `generate` wrote, and what it takes to go on."""
  tokens: tf.Tensor  # [B, length] int32
  log_probs: tf.Tensor  # [B, length] float32: nats under the model itself, whatever the temperature
  logits: tf.Tensor  # [B, V] of the token after the last one
  state: Any


def generate(advance, logits, state, *, length, temperature=1.0, top_k=0, top_p=1.0, seed=0, start=0,
             most=None):
  """Writes `length` tokens.

  Args:
    advance: (tokens [B] int32, state) -> (logits [B, V] float32, state).
    logits: [B, V] of the first token to write.
    state: the state that goes with them.
    length: tokens to write, a number or a scalar tensor.
    temperature: divides the logits; 0 takes the most likely token, the lowest id of several. This and the
      following three are a number or one per row [B].
    top_k: choose among the k most likely tokens; 0 among all.
    top_p: choose among the fewest tokens whose probabilities, at this temperature, reach this sum; 1 among all.
      With top_k too, a token must pass both.
    seed: int64, what the row's random numbers follow from.
    start: tokens of this text that earlier calls wrote.
    most: the largest `length` there will be, a number, where XLA compiles this; then the rows of B are known and the
      options are numbers.

  Returns:
    `Written`, of `most` tokens if that is given, those after `length` 0.
  """
  rows, vocab_size = logits.shape[0] or tf.shape(logits)[0], logits.shape[1]
  length = tf.convert_to_tensor(length, tf.int32)
  most = length if most is None else most
  temperature = _per_row(temperature, rows, tf.float32)[:, None]
  random = temperature > 0  # and not the opposite, so that NaN is taken as 0
  sharpness = tf.where(random, tf.minimum(1 / temperature, GREEDY), GREEDY)
  keep = _keeper(rows, vocab_size, top_k, top_p)
  numbers = tf.where(random, random_numbers(_per_row(seed, rows, tf.int64), start, most), 0.0)

  # Few operations, because each costs microseconds.
  def write(t, logits, state, tokens, losses):
    # Less the highest first: where XLA rounds once, not twice, the highest would not be 0 under a huge factor.
    below = logits - tf.reduce_max(logits, 1, keepdims=True)
    token = pick(keep(tf.nn.softmax(below * sharpness)), tf.gather(numbers, t))
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(token, logits)
    after, state = advance(token, state)
    return t + 1, after, state, tokens.write(t, token), losses.write(t, loss)

  arrays = [tf.TensorArray(dtype, most, element_shape=logits.shape[:1]) for dtype in (tf.int32, tf.float32)]
  loop = (tf.constant(0), logits, state, *arrays)
  _, logits, state, tokens, losses = tf.while_loop(lambda t, *_: t < length, write, loop)
  return Written(tf.transpose(tokens.stack()), -tf.transpose(losses.stack()), logits, state)


def prefill(advance, tokens, lengths, state):
  """Reads prompts of different lengths.

  Args:
    advance: as in `generate`.
    tokens: [B, N] int32; a row's prompt is its first tokens, and what follows them is ignored.
    lengths: [B] int32, 1 to N.
    state: the state before the prompts.

  Returns:
    logits [B, V] and the state, of each row after its own last token.
  """
  last = lengths - 1
  columns = tf.transpose(tokens)

  # The last tokens wait until after the loop, so that the loop needs no logits, and computes none.
  def read(t, state):
    _, after = advance(tf.gather(columns, t), state)
    going = tf.less(t, last)[:, None]
    return t + 1, tf.nest.map_structure(lambda new, old: tf.where(going, new, old), after, state)

  longest = tf.reduce_max(last)
  _, state = tf.while_loop(lambda t, _: t < longest, read, (tf.constant(0), state))
  return advance(tf.gather(tokens, last, batch_dims=1), state)


def random_numbers(seed, start, length):
  """Numbers start, start + 1, ... of each row's stream: [length, B, 1] float32 in [0, 1).

  seed: [B] int64. start, length: scalars.
  """
  start, rows = tf.cast(start, tf.int64), seed.shape[0] or tf.shape(seed)[0]
  blocks = start // BLOCK + tf.range((length + 2 * BLOCK - 2) // BLOCK, dtype=tf.int64)
  keys = tf.reshape(tf.stack(tf.meshgrid(seed, blocks, indexing='ij'), -1), [-1, 2])
  # Whole numbers, because XLA makes other floats of the same bits than TensorFlow does. alg='philox' is named because
  # XLA on a CPU is 60 times slower with the default.
  drawn = tf.map_fn(lambda key: tf.random.stateless_uniform([BLOCK], key, None, None, tf.int32, alg='philox'), keys,
                    fn_output_signature=tf.TensorSpec([BLOCK], tf.int32))
  streams = tf.reshape(tf.cast(tf.bitwise.bitwise_and(drawn, 2**24 - 1), tf.float32) * 2.0**-24, [rows, -1])
  wanted = tf.cast(start % BLOCK, tf.int32) + tf.range(length)
  # Not a slice: XLA would compile one for each place where it begins.
  return tf.gather(tf.transpose(streams), wanted)[:, :, None]


def row_seeds(seed, rows):
  """[rows] int64: a seed below 2**31 for row 0, and for each row after it one that no other seed shares."""
  return seed + (np.arange(rows, dtype=np.int64) << 32)


def _per_row(value, rows, dtype):
  """A number or [B] -> [B]."""
  return tf.broadcast_to(tf.cast(value, dtype), [rows])


def pick(p, numbers):
  """p [B, V], any sum above 0; numbers [B, 1] in [0, 1) -> [B] int32, tokens with odds of p, none with p = 0.

  The running sum of p climbs by a token's share at the token. The number is scaled by the sum's true end, so that
  rounding cannot put it above the last step.
  """
  climb = tf.cumsum(p, axis=1)
  height = numbers * climb[:, -1:]
  return tf.squeeze(tf.raw_ops.UpperBound(sorted_inputs=climb, values=height, out_type=tf.int32), 1)


def _keeper(rows, vocab_size, top_k, top_p):
  """-> keep: probabilities [B, V] -> the same with 0 for every token that top_k and top_p rule out."""
  constants = [tf.get_static_value(tf.convert_to_tensor(v)) for v in (top_k, top_p)]
  known = all(c is not None for c in constants)
  if known and np.all(constants[0] <= 0) and np.all(constants[1] >= 1):
    return lambda p: p
  top_k, top_p = _per_row(top_k, rows, tf.int32)[:, None], _per_row(top_p, rows, tf.float32)[:, None]
  most = tf.where(top_k > 0, tf.minimum(top_k, vocab_size), vocab_size)
  reach = tf.where(top_p < 1, tf.maximum(top_p, 1e-30), 2.0)  # 2: rounding must not rule out the last tokens
  unlimited = tf.logical_and(most >= vocab_size, reach > 1)
  limited = tf.logical_not(tf.reduce_all(unlimited))
  if known:  # and XLA needs a number
    width = int(np.max(np.where(constants[0] > 0, np.minimum(constants[0], vocab_size), vocab_size)))
  else:
    width = tf.reduce_max(tf.where(unlimited, 1, most))

  def truncate(p):
    values = tf.math.top_k(p, width).values
    before = tf.cumsum(values, axis=1, exclusive=True)
    kept = tf.logical_and(tf.range(width) < most, before < reach)
    count = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1, keepdims=True)
    least = tf.gather(values, count - 1, axis=1, batch_dims=1)
    above, level = p > least, tf.equal(p, least)
    # Of tokens that are as likely as the last one kept, the lowest ids stay.
    spare = count - tf.reduce_sum(tf.cast(above, tf.int32), axis=1, keepdims=True)
    level = tf.logical_and(level, tf.cumsum(tf.cast(level, tf.int32), axis=1) <= spare)
    return tf.where(tf.logical_or(unlimited, tf.logical_or(above, level)), p, 0.0)

  return lambda p: tf.cond(limited, lambda: truncate(p), lambda: p)


def opening(tokenizer):
  """The bytes that stand for an empty prompt: a newline, or b'' for token 0 where the tokenizer has no newline."""
  return b'\n' if tokenizer.decode(tokenizer.encode(b'\n')) == b'\n' else b''


def encode_prompt(tokenizer, prompt):
  """bytes -> [N] int32, N at least 1. Raises UserError where the tokenizer cannot read them."""
  ids = tokenizer.encode(prompt or opening(tokenizer))
  return ids if ids.size else np.zeros(1, np.int32)


def encode_prompts_tf(tokenizer, prompts):
  """`encode_prompt` in a graph: [B] string -> what `prefill` reads, tokens [B, N] and lengths [B]."""
  ids = tokenizer.encode_tf(tf.where(tf.equal(prompts, ''), opening(tokenizer), prompts))
  lengths = tf.maximum(tf.cast(ids.row_lengths(), tf.int32), 1)
  return tf.pad(ids.to_tensor(), [[0, 0], [0, 1]]), lengths  # the column that a row of no tokens at all needs


def complete(advance, state, tokens, lengths, **options):
  """Prompts as in `prefill`, from `state`, and options as in `generate` -> `Written`."""
  logits, state = prefill(advance, tokens, lengths, state)
  return generate(advance, logits, state, **options)


def sample_writer(tokenizer, **options):
  """-> write: model -> bytes, a text that starts afresh; options as in `generate`. For a look while training.

  It is compiled once and reads the weights anew each time, so `write` takes the same model always.
  """
  prompt = encode_prompt(tokenizer, b'')[None]
  compiled = tf.function(lambda model: complete(model.portable().stepper(), model.initial_state(1), prompt,
                                                tf.constant([prompt.size]), **options).tokens,
                         autograph=False)
  return lambda model: tokenizer.decode(compiled(model)[0])


class Context(NamedTuple):
  """Where B texts of a `Writer` stand."""
  logits: tf.Tensor  # [B, V] of the next token
  state: Any
  written: int  # tokens written so far


class Writer:
  """A model, compiled to read a prompt and to write B texts from it, call by call.

  The model's weights are read here, once.
  """

  def __init__(self, model, seeds, **options):
    """seeds: [B] int64, each text's own. options: temperature, top_k, top_p as in `generate`."""
    advance = model.stepper()
    self._rows, self._initial = len(seeds), model.initial_state(1)

    @tf.function(jit_compile=True, autograph=False)
    def read(tokens, length, state):
      return prefill(advance, tokens, length[None], state)

    @tf.function(jit_compile=True, autograph=False)
    def write(logits, state, length, start):
      return generate(advance, logits, state, length=length, seed=seeds, start=start, most=AT_ONCE, **options)

    self._read, self._write = read, write

  def read(self, ids, context=None):
    """ids [N] int32 -> Context of B texts that go on from there.

    context: where the text stood before, of a writer of one text; it begins here if None.
    """
    assert context is None or self._rows == 1, self._rows
    state = context.state if context else self._initial
    for start in range(0, len(ids), READ_TOKENS):
      part = ids[start:start + READ_TOKENS]
      padded = np.pad(part, (0, READ_TOKENS - len(part)))[None]
      logits, state = self._read(tf.constant(padded, tf.int32), tf.constant(len(part)), state)
    if not np.isfinite(logits).all():
      raise RunError('the weights of this model are not finite, so that it cannot write; --weights=best or an '
                     'earlier checkpoint may be sound')
    logits, state = tf.nest.map_structure(lambda s: tf.repeat(s, self._rows, 0), (logits, state))
    return Context(logits, state, context.written if context else 0)

  def write(self, length, context):
    """-> tokens [B, length] int32 array, Context after them."""
    parts = []
    for first in range(0, length, AT_ONCE):
      count = min(AT_ONCE, length - first)
      part = self._write(context.logits, context.state, tf.constant(count), tf.constant(context.written, tf.int64))
      parts.append(part.tokens.numpy()[:, :count])
      context = Context(part.logits, part.state, context.written + count)
    return np.concatenate(parts, 1), context
