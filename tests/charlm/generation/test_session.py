"""Sessions: the same text in any number of calls, from the weights as they are; and how fast it was written."""
import numpy as np
import pytest

from charlm.generation import session
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session, TimedSession, sample_writer
from flags.errors import RunError
from step_functions import Chain, Letters


def compose(one, prompts_and_lengths):
  state, tokens = None, []
  for prompt, lengths in prompts_and_lengths:
    state = one.read(np.array(prompt, np.int32), state) if prompt else state
    for length in lengths:
      new, state = one.write(length, state)
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


def test_session_refuses_weights_that_are_not_finite():
  model = Chain()
  model.weight.assign(np.nan)
  with pytest.raises(RunError, match='not finite'):
    Session(model, row_seeds(0, 1)).read(np.array([1], np.int32))


def test_sample_writer_reads_the_weights_anew():
  model, tokenizer = Chain(), Letters('abcde\n')
  write_sample = sample_writer(tokenizer, length=50, temperature=1.0, seed=3)
  before = write_sample(model)
  assert before == write_sample(model) and len(before) == 50
  model.weight.assign(100.0)
  assert write_sample(model) != before


class Zeros:
  """A session of two texts, in no time."""

  def read(self, ids, state=None):
    return state

  def write(self, length, state):
    return np.zeros([2, length], np.int32), state


def test_speed_leaves_out_the_first_call(monkeypatch):
  clock = iter([0.0, 100.0, 100.0, 101.0, 101.0, 102.0])
  monkeypatch.setattr(session.time, 'perf_counter', lambda: next(clock))
  one = TimedSession(Zeros())
  state = one.read(np.array([1]))
  assert one.summary() == '0 tokens'
  for _ in range(3):
    _, state = one.write(50, state)
  assert one.summary() == '300 tokens, 100 per second'
