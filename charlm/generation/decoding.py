"""Decoding: reads prompts and writes tokens, with any step function.

`advance: (tokens [B], state) -> (logits [B, V], state)` is all that `generate` and `prefill` know of a model. Each
row's random numbers follow from its own seed (see `random_streams.py`), so a row's text depends neither on the other
rows nor on the number of calls that write it. (Rounding may still decide between two tokens that are almost equally
likely.)
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.generation.categorical import per_row, sample_categorical, token_probabilities
from charlm.generation.random_streams import random_numbers

Advance = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]
Constrain = Callable[[tf.Tensor, Any], tf.Tensor]


class Generated(NamedTuple):
  """What `generate` wrote, and what it takes to go on."""
  tokens: tf.Tensor  # [B, length] int32
  log_probs: tf.Tensor  # [B, length] float32: nats under the model itself, whatever the temperature
  logits: tf.Tensor  # [B, V] of the token after the last one
  state: Any


def generate(advance: Advance, logits: tf.Tensor, state: Any, *, length: Any, temperature: Any = 1.0, top_k: Any = 0,
             top_p: Any = 1.0, min_p: Any = 0.0, seed: Any = 0, start: Any = 0, max_length: int | None = None,
             max_width: int = 0, constrain: Constrain | None = None) -> Generated:
  """Writes `length` tokens in each row.

  Args:
    advance: (tokens [B] int32, state) -> (logits [B, V] float32, state).
    logits: [B, V] of the first token to write.
    state: the state that goes with them.
    length: tokens to write, a number or a scalar tensor.
    temperature: divides the logits; 0 takes the most likely token, the lowest id of several. This, top_k, top_p, min_p
      and seed are a number or one per row [B].
    top_k: choose among the k most likely tokens; 0 among all.
    top_p: choose among the fewest tokens whose probabilities, at this temperature, reach this sum; 1 among all.
    min_p: choose among tokens whose probability, at this temperature, is at least this share of the highest; 0 among
      all, 1 takes the most likely one. Of top_k, top_p and min_p a token must pass all.
    seed: int64, what the row's random numbers follow from.
    start: tokens of this text that earlier calls wrote, a number or [B].
    max_length: needed where XLA compiles this: the largest `length` there will be. B must then be known.
    max_width: needed there, too, where top_k and top_p are tensors: the most tokens that they keep.
    constrain: (logits, state) -> the logits that a token is chosen by, such as `Constraints.apply`; before all else.

  Returns:
    `Generated`. With max_length it holds so many tokens; those after `length` are 0.
  """
  rows, vocab_size = logits.shape[0] or tf.shape(logits)[0], logits.shape[1]
  length = tf.convert_to_tensor(length, tf.int32)
  probabilities = token_probabilities(rows, vocab_size, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
                                      max_width=max_width)
  numbers = random_numbers(per_row(seed, rows, tf.int64), start, length if max_length is None else max_length)
  # At temperature 0 the number is 0, which takes the lowest id of equally likely tokens.
  numbers = tf.where(per_row(temperature, rows, tf.float32)[:, None] > 0, numbers, 0.0)
  chosen_by = constrain or (lambda logits, _: logits)
  return _write(advance, logits, state, length, lambda *now: probabilities(chosen_by(*now)), numbers)


def _write(advance: Advance, logits: tf.Tensor, state: Any, length: tf.Tensor, probabilities: Constrain,
           numbers: tf.Tensor) -> Generated:
  """The loop of `generate`.

  Args:
    advance, logits, state, length: as there.
    probabilities: (logits, state) -> the probabilities that a token is sampled by [B, V].
    numbers: [max_length, B, 1], what tokens are sampled by.
  """
  # Few operations, because each costs microseconds.
  def step(t: tf.Tensor, logits: tf.Tensor, state: Any, tokens: tf.TensorArray, losses: tf.TensorArray) -> tuple:
    token = sample_categorical(probabilities(logits, state), tf.gather(numbers, t))
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(token, logits)
    after, state = advance(token, state)
    return t + 1, after, state, tokens.write(t, token), losses.write(t, loss)

  size = numbers.shape[0] or tf.shape(numbers)[0]
  arrays = [tf.TensorArray(dtype, size, element_shape=logits.shape[:1]) for dtype in (tf.int32, tf.float32)]
  loop = (tf.constant(0), logits, state, *arrays)
  _, logits, state, tokens, losses = tf.while_loop(lambda t, *_: t < length, step, loop)
  return Generated(tf.transpose(tokens.stack()), -tf.transpose(losses.stack()), logits, state)


def prefill(advance: Advance, tokens: tf.Tensor, lengths: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
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
  def read(t: tf.Tensor, state: Any) -> tuple:
    _, after = advance(tf.gather(columns, t), state)
    unfinished = tf.less(t, last)[:, None]
    return t + 1, tf.nest.map_structure(lambda new, old: tf.where(unfinished, new, old), after, state)

  longest = tf.reduce_max(last)
  _, state = tf.while_loop(lambda t, _: t < longest, read, (tf.constant(0), state))
  return advance(tf.gather(tokens, last, batch_dims=1), state)


def prefill_and_generate(advance: Advance, tokens: tf.Tensor, lengths: tf.Tensor, state: Any,
                         **options: Any) -> Generated:
  """Reads prompts and goes on from them: arguments as in `prefill`, options as in `generate`."""
  logits, state = prefill(advance, tokens, lengths, state)
  return generate(advance, logits, state, **options)
