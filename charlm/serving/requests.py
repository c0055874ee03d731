"""What a request may hold: shapes, lengths and limits, checked in the graph before any work is done.

A refusal is one message that names the input. It comes from the operation that reads a number in a text, because
that has no state, unlike an assertion: servers may compute it at any time, and a scan of the graph finds nothing.
"""
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from flags.serving import ExportConfig

LARGEST_STATE = 1e6  # of a number in a state that a model made


class Options(NamedTuple):
  """How each row is written: all [B]. `position` counts the tokens of its text that were written before."""
  max_new_tokens: tf.Tensor
  temperature: tf.Tensor
  top_k: tf.Tensor
  top_p: tf.Tensor
  seed: tf.Tensor
  position: tf.Tensor


def zero_if(ok: tf.Tensor, *words: Any) -> tf.Tensor:
  """0, int32, or an error with these words, strings and tensors, where `ok` is false. To be used in what follows."""
  return tf.strings.to_number(tf.where(ok, '0', tf.strings.join([_word(w) for w in words])), tf.int32)


def _word(word: Any) -> Any:
  if isinstance(word, str):
    return word
  text = tf.strings.as_string(word)
  return text if text.shape.rank == 0 else tf.strings.join(['[', tf.strings.reduce_join(text, separator=','), ']'])


def for_each_row(name: str, value: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
  """An option [B], or [1] for all rows -> [B], or an error with both shapes."""
  value = tf.ensure_shape(value, [None], name)
  found = tf.size(value)
  zero = zero_if(tf.logical_or(tf.equal(found, rows), tf.equal(found, 1)), f'{name} has shape [', found,
                 ']: expected [', rows, '], an element for each row, or [1], one for all')
  return tf.broadcast_to(value, [rows + zero])


def same_rows(name: str, shape: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
  """0, or an error where an input of this shape has not as many rows as the other input."""
  return zero_if(tf.equal(shape[0], rows), f'{name} has shape ', shape, ': expected ', rows, ' rows, as its neighbour')


def options_of(given: Mapping[str, tf.Tensor], rows: tf.Tensor, limits: ExportConfig) -> Options:
  """The options of a request, with counts below 0 taken as 0 and those above the limit as the limit."""
  each = {name: for_each_row(name, value, rows) for name, value in given.items()}
  each['max_new_tokens'] = tf.clip_by_value(each['max_new_tokens'], 0, limits.max_new_tokens)
  each['position'] = tf.maximum(each.get('position', tf.zeros([rows], tf.int32)), 0)
  return Options(**each)


def limited(name: str, ids: tf.RaggedTensor, new_tokens: tf.Tensor | None, limits: ExportConfig) -> tf.RaggedTensor:
  """The tokens of a request, or an error where it goes beyond a limit.

  Args:
    name: of the input.
    ids: [B, None].
    new_tokens: [B] to write, or None.
    limits: a row's and all rows' together.
  """
  lengths = tf.cast(ids.row_lengths(), tf.int32)
  total = tf.reduce_sum(tf.maximum(lengths, 1)) + (0 if new_tokens is None else tf.reduce_sum(new_tokens))
  longest = tf.reduce_max(tf.concat([lengths, [0]], 0))
  zero = zero_if(longest <= limits.max_prompt_tokens, f'{name} has a row of ', longest,
                 f' tokens: expected at most {limits.max_prompt_tokens}')
  zero += within_batch(name, total, limits)
  return ids.with_values(ids.values + zero)


def within_batch(name: str, tokens: tf.Tensor, limits: ExportConfig) -> tf.Tensor:
  """0, or an error where all rows together have too many tokens, read and to be written."""
  return zero_if(tokens <= limits.max_batch_tokens, f'{name}: the request is for ', tokens,
                 f' tokens in all rows together, read and written: expected at most {limits.max_batch_tokens}')


def known(name: str, ids: tf.Tensor, vocab_size: int) -> tf.Tensor:
  """Ids [N], or an error where one is not in the vocabulary."""
  least, most = (reduce(tf.concat([ids, [0]], 0)) for reduce in (tf.reduce_min, tf.reduce_max))
  ok = tf.logical_and(least >= 0, most < vocab_size)
  return ids + zero_if(ok, f'{name} has ids from ', least, ' to ', most, f': expected 0 to {vocab_size - 1}')


def finite(name: str, state: tf.Tensor) -> tf.Tensor:
  """A state [B, D] as a model made it, or an error."""
  ok = tf.reduce_all(tf.abs(state) < LARGEST_STATE)
  zero = zero_if(ok, f'{name} has numbers that no model made: expected the state of an earlier answer')
  return state + tf.cast(zero, state.dtype)
