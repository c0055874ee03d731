"""Writes texts of different lengths; a row that is done leaves the loop, so that work follows each row's own length.

The loop runs in stretches. In each all rows write on, until one has as many tokens as it wants or has stopped; the
rows that are done then leave, and the others go on.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.generation.categorical import sample_categorical, token_probabilities
from charlm.generation.random_streams import ragged_numbers
from charlm.network.model import Reader
from charlm.serving.requests import Options
from charlm.serving.stops import Stops


class Written(NamedTuple):
  """What was written in each row."""
  tokens: tf.RaggedTensor  # [B, None] int32
  log_prob: tf.Tensor  # [B] float32, nats under the model itself, whatever the temperature
  state: Any  # after them
  stop: tf.Tensor  # [B] int32, the state of `Stops`


class _Rows(NamedTuple):
  """Rows that are being written."""
  rows: tf.Tensor  # [k], which of the request
  state: Any
  stop: tf.Tensor


def write(reader: Reader, stops: Stops, state: Any, stop: tf.Tensor, options: Options) -> Written:
  """Writes on from a state.

  Args:
    reader: the model.
    stops: what ends a text.
    state: a nest of [B, H].
    stop: [B], where each row stands on its way to a stop text.
    options: of each row.
  """
  options = options._replace(temperature=tf.where(options.temperature > 0, options.temperature, 0.0))  # NaN too
  numbers, begins = ragged_numbers(options.seed, options.position, options.max_new_tokens)
  wanted, nest = options.max_new_tokens, tf.nest.map_structure
  steps = tf.reduce_max(tf.concat([wanted, [0]], 0))
  tokens, losses = (tf.TensorArray(dtype, steps, element_shape=[None], infer_shape=False)
                    for dtype in (tf.int32, tf.float32))
  which = tf.TensorArray(tf.int32, 0, True, element_shape=[None], infer_shape=False)  # rows of the tokens of a stretch
  first = _Rows(tf.range(tf.size(wanted)), state, stop)
  left = nest(lambda s: tf.TensorArray(s.dtype, 0, True, element_shape=[None, *s.shape[1:]], infer_shape=False), first)

  def stretch(i: tf.Tensor, t: tf.Tensor, now: _Rows, which: tf.TensorArray, left: _Rows, *arrays: Any) -> tuple:
    own = Options(*(tf.gather(option, now.rows) for option in options))
    places, end = tf.gather(begins, now.rows), tf.reduce_min(own.max_new_tokens)
    after, now, *arrays = tf.while_loop(
      lambda t, now, *_: tf.logical_and(t < end, stops.none_done(now.stop)),
      _step(reader, own, lambda t: tf.gather(numbers, places + t), stops), (t, now, *arrays))
    done = tf.logical_or(own.max_new_tokens <= after, stops.done(now.stop))
    left = nest(lambda array, s: array.write(i, tf.boolean_mask(s, done)), left, now)
    which = which.write(i, tf.tile(now.rows, [after - t]))
    return i + 1, after, nest(lambda s: tf.boolean_mask(s, ~done), now), which, left, *arrays

  start = tf.constant(0), tf.constant(0), first, which, left, tokens, losses
  _, t, _, which, left, tokens, losses = tf.while_loop(lambda i, t, now, *_: tf.size(now.rows) > 0, stretch, start)
  tokens, losses = (_emptied(array, t, steps).concat() for array in (tokens, losses))
  last = nest(lambda array: array.concat(), left)
  back = tf.math.invert_permutation(last.rows)
  return Written(*_by_row(which.concat(), tokens, losses, tf.size(wanted)),
                 nest(lambda s: tf.gather(s, back), last.state), tf.gather(last.stop, back))


def _step(reader: Reader, options: Options, numbers: Callable[[tf.Tensor], tf.Tensor], stops: Stops,
          ) -> Callable[..., tuple]:
  """The body of the loop over tokens, for rows with these options. numbers: t -> [k]."""
  probabilities = token_probabilities(tf.size(options.seed), reader.vocab_size, temperature=options.temperature,
                                      top_k=options.top_k, top_p=options.top_p)
  warm = tf.cast(options.temperature > 0, tf.float32)  # at temperature 0 the number is 0, which takes the lowest id

  def step(t: tf.Tensor, now: _Rows, tokens: tf.TensorArray, losses: tf.TensorArray) -> tuple:
    logits = reader.logits(now.state)
    token = sample_categorical(probabilities(logits), (numbers(t) * warm)[:, None])
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(token, logits)
    now = _Rows(now.rows, reader.read(token, now.state), stops.advance(now.stop, token))
    return t + 1, now, tokens.write(t, token), losses.write(t, loss)

  return step


def _emptied(array: tf.TensorArray, first: tf.Tensor, steps: tf.Tensor) -> tf.TensorArray:
  """An array with nothing in its places from `first` on, which no row came to."""
  empty = tf.zeros([0], array.dtype)
  return tf.while_loop(lambda t, _: t < steps, lambda t, a: (t + 1, a.write(t, empty)), (first, array))[1]


def _by_row(rows: tf.Tensor, tokens: tf.Tensor, losses: tf.Tensor, count: tf.Tensor,
            ) -> tuple[tf.RaggedTensor, tf.Tensor]:
  """Tokens in the order in which they were written, and their rows -> [B, None] tokens, [B] log-probabilities."""
  order = tf.argsort(rows, stable=True)
  ids = tf.RaggedTensor.from_value_rowids(tf.gather(tokens, order), tf.gather(rows, order), count, validate=False)
  return ids, tf.cast(tf.math.unsorted_segment_sum(-tf.cast(losses, tf.float64), rows, count), tf.float32)
