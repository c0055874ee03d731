"""Sessions: the same text in any number of calls, from the weights as they are; and how fast it was written."""
import numpy as np
import pytest

from charlm.generation import session
from charlm.generation.decoding import generate
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session, TimedSession, Written, sample_writer
from flags.errors import RunError, UserError
from step_functions import Chain, Letters


def compose(one, prompts_and_lengths):
  state, tokens = None, []
  for prompt, lengths in prompts_and_lengths:
    state = one.read([np.array(prompt, np.int32)], state) if prompt else state
    for length in lengths:
      new, _, state = one.write(length, state)
      tokens.append(new)
  return np.concatenate(tokens, 1).tolist()


def test_session_writes_the_same_text_in_any_number_of_calls_and_rows(monkeypatch):
  whole = compose(Session(Chain(), row_seeds(3, 3)), [([1, 2, 3], [100])])
  monkeypatch.setattr(session, 'READ_TOKENS', 2)
  assert compose(Session(Chain(), row_seeds(3, 3)), [([1, 2, 3], [32, 32, 32, 4])]) == whole
  assert compose(Session(Chain(), row_seeds(3, 1)), [([1, 2, 3], [99, 1])]) == whole[:1]
  assert whole[0] != whole[1]


def test_session_goes_on_after_a_second_prompt():
  one = Session(Chain(), row_seeds(3, 1), temperature=0.0)
  first = compose(one, [([1, 2], [5])])
  both = compose(one, [([1, 2], [5]), ([4], [5])])
  assert both[0][:5] == first[0]
  assert both[0][5:] == compose(one, [([1, 2, *first[0], 4], [5])])[0]


def prompts(*several):
  return [np.array(prompt, np.int32) for prompt in several]


def test_prompts_of_different_lengths_are_each_as_alone(monkeypatch):
  monkeypatch.setattr(session, 'READ_TOKENS', 4)
  several, seeds = prompts([1, 2, 3], [4], [2, 5, 1, 3, 2, 2, 1, 6, 5]), np.array([5, 2**40, 7])
  several_rows = Session(Chain(), seeds, temperature=0.9)
  tokens, log_probs, state = several_rows.write(70, several_rows.read(several))
  more, *_ = several_rows.write(9, several_rows.read(prompts([], [1, 1], [3] * 6), state))
  for i, prompt in enumerate(several):
    one = Session(Chain(), seeds[i:i + 1], temperature=0.9)
    alone, its_log_probs, after = one.write(70, one.read([prompt]))
    np.testing.assert_array_equal(alone[0], tokens[i])
    np.testing.assert_allclose(its_log_probs[0], log_probs[i], atol=1e-5)
    again, *_ = one.write(9, one.read(prompts(([], [1, 1], [3] * 6)[i]), after))
    np.testing.assert_array_equal(again[0], more[i])


def test_rows_may_have_written_different_numbers_of_tokens():
  one, two = Session(Chain(), np.array([3])), Session(Chain(), np.array([3, 4]))
  whole = one.write(90, one.read(prompts([1])))
  part, fresh = one.write(50, one.read(prompts([1]))).state, Session(Chain(), np.array([4])).read(prompts([2]))
  both = session.joined([part, fresh])
  assert both.written.tolist() == [50, 0]
  tokens = two.write(40, both).tokens
  np.testing.assert_array_equal(tokens[0], whole.tokens[0, 50:])
  np.testing.assert_array_equal(tokens[1], Session(Chain(), np.array([4])).write(40, fresh).tokens[0])


def test_each_prompt_may_have_several_texts():
  four = Session(Chain(), np.arange(4))
  tokens = four.write(20, session.take(four.read(prompts([1], [2, 3])), [0, 0, 1, 1])).tokens
  for i, prompt in enumerate(([1], [1], [2, 3], [2, 3])):
    one = Session(Chain(), np.array([i]))
    np.testing.assert_array_equal(one.write(20, one.read(prompts(prompt))).tokens[0], tokens[i])


def test_other_seeds_and_temperatures_compile_nothing():
  one = Session(Chain(), np.array([1]), temperature=0.9)
  one.write(5, one.read(prompts([1])))
  other = one.but(seeds=np.array([2]), temperature=0.3)
  tokens = other.write(50, other.read(prompts([1]))).tokens
  assert one.writer().experimental_get_tracing_count() == one._read.experimental_get_tracing_count() == 1
  fresh = Session(Chain(), np.array([2]), temperature=0.3)
  np.testing.assert_array_equal(fresh.write(50, fresh.read(prompts([1]))).tokens, tokens)
  assert tokens.tolist() != one.write(50, one.read(prompts([1]))).tokens.tolist()


@pytest.mark.parametrize('options', [{'top_k': 1}, {'top_k': 3}, {'top_k': 4}, {'top_k': 10**9}, {'top_p': 0.6},
                                     {'min_p': 0.3}, {'top_k': 5, 'top_p': 0.7, 'min_p': 0.1}])
def test_options_are_inputs(options):
  one = Session(Chain(), np.array([1, 2]), temperature=0.9)
  state = one.read(prompts([1], [2, 3]))
  wanted = generate(Chain().stepper(), state.logits, state.network_state, length=30, temperature=0.9, seed=[1, 2],
                    **options)
  found = one.but(**options).write(30, state)
  np.testing.assert_array_equal(found.tokens, wanted.tokens)
  np.testing.assert_allclose(found.log_probs, wanted.log_probs, atol=1e-5)


def test_few_functions_are_compiled_whatever_the_options():
  one = Session(Chain(), np.array([1]))
  writers = {one.but(top_k=k, top_p=p, min_p=m).writer()
             for k in range(20) for p in (0.3, 0.9, 1.0) for m in (0, 0.1, 0.2)}
  assert len(writers) == 2 * 5  # none, 1, 2, 4, 7 = V


def test_session_refuses_weights_that_are_not_finite():
  model = Chain()
  model.weight.assign(np.nan)
  with pytest.raises(RunError, match='not finite'):
    Session(model, row_seeds(0, 1)).read([np.array([1], np.int32)])


def test_sample_writer_reads_the_weights_anew():
  model, tokenizer = Chain(), Letters('abcde\n')
  write_sample = sample_writer(tokenizer, length=50, temperature=1.0, seed=3)
  before = write_sample(model)
  assert before == write_sample(model) and len(before) == 50
  model.weight.assign(100.0)
  assert write_sample(model) != before


class Zeros:
  """A session of two texts, in no time."""

  def read(self, prompts, state=None):
    return state

  def write(self, length, state):
    return Written(np.zeros([2, length], np.int32), np.zeros([2, length]), state)


def test_speed_leaves_out_the_first_call(monkeypatch):
  clock = iter([0.0, 100.0, 100.0, 101.0, 101.0, 102.0])
  monkeypatch.setattr(session.time, 'perf_counter', lambda: next(clock))
  one = TimedSession(Zeros())
  state = one.read([np.array([1])])
  assert one.summary() == '0 tokens'
  for _ in range(3):
    state = one.write(50, state).state
  assert one.summary() == '300 tokens, 100 per second'


def test_what_is_dropped_does_not_count_but_its_time_does(monkeypatch):
  clock = iter([0.0, 100.0, 100.0, 101.0, 101.0, 102.0])
  monkeypatch.setattr(session.time, 'perf_counter', lambda: next(clock))
  one = TimedSession(Zeros())
  for dropped in 0, 100, 10:
    one.write(50, None)
    one.drop(dropped)
  assert one.summary() == '190 tokens, 45 per second'


@pytest.mark.parametrize('rows, words', [(1, '--length=7: expected fewer tokens: a text of so many takes'),
                                         (2, '--num_samples=2: expected fewer texts side by side: 2 take')])
def test_what_the_memory_does_not_hold_is_named(monkeypatch, rows, words):
  monkeypatch.setattr(session, 'memory_bytes', lambda: 1000)
  with pytest.raises(UserError, match=words):
    session.check_memory(Chain(), rows, 7)
