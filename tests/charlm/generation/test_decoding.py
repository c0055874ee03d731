"""Writing text from a step function: against a slow NumPy twin, and against itself cut up in other ways."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.generation import decoding
from charlm.generation.random_streams import random_numbers
from references import token_probabilities
from step_functions import TABLE, V, begin, chain


@tf.function(input_signature=[tf.TensorSpec([None, V]), tf.TensorSpec([None, 1]), tf.TensorSpec([], tf.int32),
                              *[tf.TensorSpec([None], t) for t in ['float32', 'int32', 'float32', 'float32', 'int64']],
                              tf.TensorSpec([], tf.int64)])
def from_tensors(logits, state, length, temperature, top_k, top_p, min_p, seed, start):
  return decoding.generate(chain, logits, state, length=length, temperature=temperature, top_k=top_k, top_p=top_p,
                           min_p=min_p, seed=seed, start=start)


def write(length=100, temperature=(1.0,), top_k=(0,), top_p=(1.0,), min_p=(0.0,), seed=(0,), start=0, at=None):
  """One row for each seed; the other options have one value for all rows, or one for each."""
  options = [np.broadcast_to(v, len(seed)) for v in (temperature, top_k, top_p, min_p, seed)]
  return from_tensors(*(at or begin(len(seed))), length, *options, start)


OPTIONS = [(1.0, 0, 1.0, 0.0), (0.5, 0, 1.0, 0.0), (2.0, 0, 1.0, 0.0), (0.0, 0, 1.0, 0.0), (1.0, 3, 1.0, 0.0),
           (1.0, 0, 0.6, 0.0), (0.7, 4, 0.8, 0.0), (1.0, 1, 1.0, 0.0), (1.0, 99, 1.0, 0.0), (1.0, 0, 1e-6, 0.0),
           (0.0, 3, 0.5, 0.0), (1.0, 0, 1.0, 0.3), (2.0, 0, 1.0, 0.3), (0.5, 5, 0.9, 0.1), (1.0, 3, 1.0, 0.05),
           (1.0, 0, 1.0, 1.0), (0.0, 0, 1.0, 0.5)]


def twin(numbers, temperature, *options):
  """numbers [length] -> tokens, log-probabilities, one token after another."""
  logits, total, tokens, log_probs = TABLE[0].astype('float64'), 0.0, [], []
  for u in numbers:
    climb = np.cumsum(token_probabilities(logits, temperature, *options))
    token = int(np.sum(climb <= (u if temperature else 0) * climb[-1]))
    tokens.append(token)
    log_probs.append(logits[token] - np.log(np.sum(np.exp(logits))))
    total += token
    logits = TABLE[token] + np.sin(total)
  return tokens, log_probs


@pytest.mark.parametrize('options', OPTIONS)
def test_text_and_log_probabilities_agree_with_the_twin(options):
  numbers = random_numbers(tf.constant([5], tf.int64), 0, 100)[:, 0, 0].numpy().astype('float64')
  generated = write(100, *options, seed=[5])
  tokens, log_probs = twin(numbers, *options)
  assert generated.tokens[0].numpy().tolist() == tokens
  np.testing.assert_allclose(generated.log_probs[0], log_probs, atol=1e-4)


NAMES = 'temperature', 'top_k', 'top_p', 'min_p'


@pytest.mark.parametrize('values', [(0.5, 0, 1.0, 0.0), (1.0, 3, 0.8, 0.0), (1.0, 0, 1.0, 0.3)])
def test_numbers_given_as_such_write_the_same_as_one_per_row(values):
  options = dict(zip(NAMES, values, strict=True), seed=5)
  graph = tf.function(lambda logits, state: decoding.generate(chain, logits, state, length=70, **options))
  np.testing.assert_array_equal(graph(*begin(2)).tokens, write(70, *values, seed=[5, 5]).tokens)


@pytest.mark.parametrize('values', [(0.5, 0, 1.0, 0.0), (0.0, 0, 1.0, 0.0), (1.0, 3, 0.8, 0.0), (1.0, 0, 0.7, 0.0),
                                    (1.0, 0, 1.0, 0.3), (0.8, 4, 0.9, 0.1)])
def test_xla_writes_the_same(values):
  options = dict(zip(NAMES, values, strict=True), seed=5, start=30)
  graph = tf.function(lambda logits, state: decoding.generate(
      chain, logits, state, length=70, max_length=100, **options), jit_compile=True)
  generated = graph(*begin(2))
  want = write(70, *values, seed=[5, 5], start=30)
  np.testing.assert_array_equal(generated.tokens[:, :70], want.tokens)
  np.testing.assert_allclose(generated.logits, want.logits, atol=1e-5)


def test_one_program_writes_from_any_place():
  """What XLA takes for a constant is in the program, which it then compiles again for each value."""
  graph = tf.function(lambda logits, state, length, start: decoding.generate(
      chain, logits, state, length=length, start=start, max_length=10), jit_compile=True)

  def program(length, start):
    arguments = *begin(2), tf.constant(length), tf.constant(start, tf.int64)
    return graph.experimental_get_compiler_ir(*arguments)(stage='hlo')

  assert program(10, 0) == program(7, 133)


@pytest.mark.parametrize('temperature, top_k, top_p', [(1.0, 0, 1.0), (0.7, 4, 0.8)])
def test_draws_are_distributed_as_the_twin_says(temperature, top_k, top_p):
  draws = 4000
  tokens = write(1, temperature, top_k, top_p, seed=range(draws)).tokens
  p = token_probabilities(TABLE[0].astype('float64'), temperature, top_k, top_p)
  share = np.bincount(tokens[:, 0], minlength=V) / draws
  np.testing.assert_allclose(share, p, atol=5 * 0.5 / np.sqrt(draws))
  assert not share[p == 0].any()


def test_the_same_seed_writes_the_same_text_and_another_seed_another():
  first, again, other = (write(seed=[seed]).tokens.numpy().tolist() for seed in (3, 3, 4))
  assert first == again != other


def test_a_row_depends_on_its_own_options_and_seed_alone():
  options = {'temperature': [1.0, 0.0, 0.7, 1.0], 'top_k': [0, 0, 3, 0], 'top_p': [1.0, 1.0, 0.9, 0.5],
             'min_p': [0.5, 0.2, 0.0, 0.1], 'seed': [7, 2**40, -5, 7]}
  together = write(**options)
  for row in range(4):
    alone = write(**{name: values[row:row + 1] for name, values in options.items()})
    np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
    np.testing.assert_allclose(together.log_probs[row], alone.log_probs[0], atol=1e-5)


@pytest.mark.parametrize('cuts', [[1] * 100, [64, 36], [63, 2, 35], [50, 50]])
def test_text_does_not_depend_on_the_calls_that_write_it(cuts):
  whole = write(seed=[1, 2])
  at, start, parts = begin(2), 0, []
  for length in cuts:
    part = write(length, seed=[1, 2], at=at, start=start)
    at, start = (part.logits, part.state), start + length
    parts.append(part.tokens)
  np.testing.assert_array_equal(np.concatenate(parts, 1), whole.tokens)
  np.testing.assert_allclose(at[0], whole.logits, atol=1e-5)


@pytest.mark.parametrize('strange, like', [
    ((float('nan'), 0, 1.0), (0.0, 0, 1.0)), ((-1.0, 0, 1.0), (0.0, 0, 1.0)), ((1e-38, 0, 1.0), (0.0, 0, 1.0)),
    ((1.0, -3, 1.0), (1.0, 0, 1.0)), ((1.0, 0, 7.0), (1.0, 0, 1.0)), ((1.0, 0, -1.0), (1.0, 1, 1.0)),
    ((1.0, 0, 1.0, -1.0), (1.0, 0, 1.0)), ((1.0, 0, 1.0, 3.0), (1.0, 1, 1.0)),
    ((1.0, 0, 1.0, float('nan')), (1.0, 0, 1.0))])
def test_options_out_of_range_are_taken_as_the_nearest_that_make_sense(strange, like):
  np.testing.assert_array_equal(write(100, *strange).tokens, write(100, *like).tokens)


@pytest.mark.parametrize('lengths', [[1, 1], [4, 4], [1, 4], [3, 2]])
def test_prefill_reads_each_row_up_to_its_own_end(lengths):
  tokens = np.random.default_rng(1).integers(0, V, [2, 4]).astype('int32')
  logits, state = decoding.prefill(chain, tokens, tf.constant(lengths), tf.ones([2, 1]))
  for row, length in enumerate(lengths):
    expected, after = None, tf.ones([1, 1])
    for token in tokens[row, :length]:
      expected, after = chain(tf.constant([token]), after)
    np.testing.assert_allclose(logits[row], expected[0], atol=1e-5)
    np.testing.assert_array_equal(state[row], after[0])
