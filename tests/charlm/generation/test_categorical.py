"""Sampling a token: what temperature, top-k and top-p leave, and that nothing else is ever taken."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.generation import decoding
from charlm.generation.categorical import sample_categorical


def fixed(logits):
  """A step that gives the same logits [B, V] again and again."""
  return lambda _, state: (logits, state)


@pytest.mark.parametrize('top_k, top_p, expected', [
    (2, 1.0, {1, 2}), (1, 1.0, {1}), (0, 0.5, {1, 2}), (3, 1.0, {1, 2, 4}), (4, 1.0, {0, 1, 2, 4}),
    (0, 1.0, {0, 1, 2, 3, 4})])
def test_of_equally_likely_tokens_the_lowest_ids_stay(top_k, top_p, expected):
  logits = tf.constant([[0.0, 1.0, 1.0, 0.0, 1.0]])
  graph = tf.function(lambda: decoding.generate(fixed(logits), logits, (), length=300, top_k=top_k, top_p=top_p))
  assert set(graph().tokens.numpy().ravel()) == expected


@pytest.mark.parametrize('top_k', [0, 2])
def test_temperature_zero_is_argmax_and_ties_go_to_the_lowest_id(top_k):
  logits = tf.constant([[1.0, 3.0, 3.0, -100.0], [200.0, 200.00002, -np.inf, 0.0], [1e-7, 0.0, 1e-8, 0.0]])
  written = decoding.generate(fixed(logits), logits, (), length=5, temperature=0.0, top_k=top_k)
  assert written.tokens.numpy().tolist() == [[1] * 5, [1] * 5, [0] * 5]


def test_a_token_without_probability_is_never_written_whatever_the_number():
  p = tf.constant([[0.0, 0.0, 0.3, 0.0, 0.1, 0.0, 0.0]] * 3)
  edge = np.float32([[0.0], [0.75], [1 - 2**-23]])
  assert sample_categorical(p, edge).numpy().tolist() == [2, 4, 4]
  # A sum that rounding leaves off 1, and the highest number there is.
  many = np.full([1, 100_003], 1 / 100_003, 'float32')
  many[:, -3:] = 0
  assert sample_categorical(many, edge[2:]).numpy() == [99_999]
