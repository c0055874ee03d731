"""Writing text from a step function: against a slow NumPy twin, and against itself cut up in other ways."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.generation import decoding
from flags.errors import RunError
from flags.network import ModelConfig

V = 7
TABLE = np.random.default_rng(0).normal(size=(V, V)).astype('float32')


def chain(tokens, state):
  """Logits follow from the last token and from the sum of all of them."""
  state = state + tf.cast(tokens, tf.float32)[:, None]
  return tf.gather(TABLE, tokens) + tf.math.sin(state), state


def fixed(logits):
  """A step that gives the same logits [B, V] again and again."""
  return lambda _, state: (logits, state)


def begin(rows):
  return tf.tile(TABLE[:1], [rows, 1]), tf.zeros([rows, 1])


@tf.function(input_signature=[tf.TensorSpec([None, V]), tf.TensorSpec([None, 1]), tf.TensorSpec([], tf.int32),
                              *[tf.TensorSpec([None], t) for t in (tf.float32, tf.int32, tf.float32, tf.int64)],
                              tf.TensorSpec([], tf.int64)])
def from_tensors(logits, state, length, temperature, top_k, top_p, seed, start):
  return decoding.generate(chain, logits, state, length=length, temperature=temperature, top_k=top_k, top_p=top_p,
                           seed=seed, start=start)


def write(length=100, temperature=(1.0,), top_k=(0,), top_p=(1.0,), seed=(0,), start=0, at=None):
  """One row for each seed; the other options have one value for all rows, or one for each."""
  options = [np.broadcast_to(v, len(seed)) for v in (temperature, top_k, top_p, seed)]
  return from_tensors(*(at or begin(len(seed))), length, *options, start)


def probabilities(logits, temperature, top_k, top_p):
  """[V] -> [V] in float64: the probabilities of the token to write."""
  order = np.argsort(-logits, kind='stable')
  if temperature == 0:
    return np.eye(len(logits))[order[0]]
  p = np.exp((logits - logits.max()) / np.float64(temperature))
  p /= p.sum()
  before = np.concatenate([[0], np.cumsum(p[order])[:-1]])
  kept = order[(np.arange(len(p)) < (top_k or len(p))) & ((before < top_p) | (top_p == 1))]
  p = np.where(np.isin(np.arange(len(p)), kept), p, 0)
  return p / p.sum()


OPTIONS = [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 0, 1.0), (0.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.6), (0.7, 4, 0.8),
           (1.0, 1, 1.0), (1.0, 99, 1.0), (1.0, 0, 1e-6), (0.0, 3, 0.5)]


def twin(numbers, temperature, top_k, top_p):
  """numbers [length] -> tokens, log-probabilities, one token after another."""
  logits, total, tokens, log_probs = TABLE[0].astype('float64'), 0.0, [], []
  for u in numbers:
    climb = np.cumsum(probabilities(logits, temperature, top_k, top_p))
    token = int(np.sum(climb <= (u if temperature else 0) * climb[-1]))
    tokens.append(token)
    log_probs.append(logits[token] - np.log(np.sum(np.exp(logits))))
    total += token
    logits = TABLE[token] + np.sin(total)
  return tokens, log_probs


@pytest.mark.parametrize('temperature, top_k, top_p', OPTIONS)
def test_text_and_log_probabilities_agree_with_the_twin(temperature, top_k, top_p):
  numbers = decoding.random_numbers(tf.constant([5], tf.int64), 0, 100)[:, 0, 0].numpy().astype('float64')
  written = write(100, temperature, top_k, top_p, seed=[5])
  tokens, log_probs = twin(numbers, temperature, top_k, top_p)
  assert written.tokens[0].numpy().tolist() == tokens
  np.testing.assert_allclose(written.log_probs[0], log_probs, atol=1e-4)


@pytest.mark.parametrize('temperature, top_k, top_p', [(0.5, 0, 1.0), (1.0, 3, 0.8)])
def test_numbers_given_as_such_write_the_same_as_one_per_row(temperature, top_k, top_p):
  options = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p, 'seed': 5}
  graph = tf.function(lambda logits, state: decoding.generate(chain, logits, state, length=70, **options))
  np.testing.assert_array_equal(graph(*begin(2)).tokens, write(70, temperature, top_k, top_p, seed=[5, 5]).tokens)


@pytest.mark.parametrize('temperature, top_k, top_p', [(0.5, 0, 1.0), (0.0, 0, 1.0), (1.0, 3, 0.8), (1.0, 0, 0.7)])
def test_xla_writes_the_same(temperature, top_k, top_p):
  options = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p, 'seed': 5, 'start': 30}
  graph = tf.function(lambda logits, state: decoding.generate(chain, logits, state, length=70, most=100, **options),
                      jit_compile=True)
  written = graph(*begin(2))
  want = write(70, temperature, top_k, top_p, seed=[5, 5], start=30)
  np.testing.assert_array_equal(written.tokens[:, :70], want.tokens)
  np.testing.assert_allclose(written.logits, want.logits, atol=1e-5)


def test_one_program_writes_from_any_place():
  """What XLA takes for a constant is in the program, which it then compiles again for each value."""
  graph = tf.function(lambda logits, state, length, start: decoding.generate(
      chain, logits, state, length=length, start=start, most=10), jit_compile=True)

  def program(length, start):
    arguments = *begin(2), tf.constant(length), tf.constant(start, tf.int64)
    return graph.experimental_get_compiler_ir(*arguments)(stage='hlo')

  assert program(10, 0) == program(7, 133)


@pytest.mark.parametrize('temperature, top_k, top_p', [(1.0, 0, 1.0), (0.7, 4, 0.8)])
def test_draws_are_distributed_as_the_twin_says(temperature, top_k, top_p):
  draws = 4000
  tokens = write(1, temperature, top_k, top_p, seed=range(draws)).tokens
  p = probabilities(TABLE[0].astype('float64'), temperature, top_k, top_p)
  share = np.bincount(tokens[:, 0], minlength=V) / draws
  np.testing.assert_allclose(share, p, atol=5 * 0.5 / np.sqrt(draws))
  assert not share[p == 0].any()


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
  assert decoding.pick(p, edge).numpy().tolist() == [2, 4, 4]
  # A sum that rounding leaves off 1, and the highest number there is.
  many = np.full([1, 100_003], 1 / 100_003, 'float32')
  many[:, -3:] = 0
  assert decoding.pick(many, edge[2:]).numpy() == [99_999]


def test_the_same_seed_writes_the_same_text_and_another_seed_another():
  first, again, other = (write(seed=[seed]).tokens.numpy().tolist() for seed in (3, 3, 4))
  assert first == again != other


def test_a_row_depends_on_its_own_options_and_seed_alone():
  options = {'temperature': [1.0, 0.0, 0.7, 1.0], 'top_k': [0, 0, 3, 0], 'top_p': [1.0, 1.0, 0.9, 0.5],
             'seed': [7, 2**40, -5, 7]}
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
    ((1.0, -3, 1.0), (1.0, 0, 1.0)), ((1.0, 0, 7.0), (1.0, 0, 1.0)), ((1.0, 0, -1.0), (1.0, 1, 1.0))])
def test_options_out_of_range_are_taken_as_the_nearest_that_make_sense(strange, like):
  np.testing.assert_array_equal(write(100, *strange).tokens, write(100, *like).tokens)


def test_random_numbers_are_one_stream_per_seed():
  seeds = tf.constant([0, 1, 2**31, -1, 2**32], tf.int64)
  numbers = decoding.random_numbers(seeds, 0, 1000).numpy()[:, :, 0]
  assert numbers.min() >= 0 and numbers.max() < 1
  np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.05)
  np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(5), atol=0.15)
  for start, length in ((0, 1), (63, 2), (64, 64), (100, 500)):
    np.testing.assert_array_equal(decoding.random_numbers(seeds, start, length)[:, :, 0],
                                  numbers[start:start + length])


def test_row_seeds_start_with_the_seed_and_never_meet():
  assert decoding.row_seeds(17, 3)[0] == 17
  seeds = np.concatenate([decoding.row_seeds(seed, 50) for seed in (0, 1, 2, 2**31 - 1)])
  assert len(set(seeds.tolist())) == len(seeds)


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


class Letters:
  """A tokenizer that knows some letters; id 0 is any other."""

  def __init__(self, known):
    self.known = '?' + known

  def encode(self, text):
    return np.array([max(0, self.known.find(chr(byte))) for byte in text], np.int32)

  def decode(self, ids):
    return ''.join(self.known[i] for i in ids).encode()

  def encode_tf(self, text):
    codes = tf.strings.unicode_decode(text, 'UTF-8')
    table = np.zeros(128, np.int32)
    table[[ord(c) for c in self.known]] = range(len(self.known))
    return codes.with_values(tf.gather(table, codes.values))


@pytest.mark.parametrize('known, empty', [('abc\n', [4]), ('abc', [0])])
def test_an_empty_prompt_is_a_newline_or_else_token_0(known, empty):
  tokenizer = Letters(known)
  prompts = [b'', b'ab', b'c']
  tokens, lengths = decoding.encode_prompts_tf(tokenizer, tf.constant(prompts))
  assert tokens.numpy()[:, :2].tolist() == [[*empty, 0], [1, 2], [3, 0]] and lengths.numpy().tolist() == [1, 2, 1]
  assert [decoding.encode_prompt(tokenizer, p).tolist() for p in prompts] == [empty, [1, 2], [3]]
  tokens, lengths = decoding.encode_prompts_tf(tokenizer, tf.constant([b'']))
  assert tokens.numpy()[:, :1].tolist() == [empty] and lengths.numpy().tolist() == [1]


class Chain:
  """What `Writer` asks of a model."""

  def __init__(self):
    self.config, self.weight = ModelConfig(), tf.Variable(1.0)

  def initial_state(self, rows):
    return tf.zeros([rows, 1])

  def portable(self):
    return self

  def stepper(self):
    weight = self.weight.read_value()

    def advance(tokens, state):
      logits, state = chain(tokens, state)
      return logits * weight, state

    return advance


def compose(writer, prompts_and_lengths):
  context, tokens = None, []
  for prompt, lengths in prompts_and_lengths:
    context = writer.read(np.array(prompt, np.int32), context) if prompt else context
    for length in lengths:
      new, context = writer.write(length, context)
      tokens.append(new)
  return np.concatenate(tokens, 1).tolist()


def test_writer_writes_the_same_text_in_any_number_of_calls_and_rows(monkeypatch):
  whole = compose(decoding.Writer(Chain(), decoding.row_seeds(3, 3)), [([1, 2, 3], [100])])
  monkeypatch.setattr(decoding, 'READ_TOKENS', 2)
  assert compose(decoding.Writer(Chain(), decoding.row_seeds(3, 3)), [([1, 2, 3], [32, 32, 32, 4])]) == whole
  assert compose(decoding.Writer(Chain(), decoding.row_seeds(3, 1)), [([1, 2, 3], [99, 1])]) == whole[:1]
  assert whole[0] != whole[1]


def test_writer_goes_on_after_a_second_prompt():
  writer = decoding.Writer(Chain(), decoding.row_seeds(3, 1), temperature=0.0)
  first = compose(writer, [([1, 2], [5])])
  both = compose(writer, [([1, 2], [5]), ([4], [5])])
  assert both[0][:5] == first[0]
  assert both[0][5:] == compose(writer, [([1, 2, *first[0], 4], [5])])[0]


def test_writer_refuses_weights_that_are_not_finite():
  model = Chain()
  model.weight.assign(np.nan)
  with pytest.raises(RunError, match='not finite'):
    decoding.Writer(model, decoding.row_seeds(0, 1)).read(np.array([1], np.int32))


def test_sample_writer_reads_the_weights_anew():
  model, tokenizer = Chain(), Letters('abcde\n')
  write_sample = decoding.sample_writer(tokenizer, length=50, temperature=1.0, seed=3)
  before = write_sample(model)
  assert before == write_sample(model) and len(before) == 50
  model.weight.assign(100.0)
  assert write_sample(model) != before
