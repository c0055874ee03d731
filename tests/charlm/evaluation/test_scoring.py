"""Rows that are read side by side have the loss of one row, however long the model remembers."""
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import references
import slow_model
from charlm.evaluation import scoring
from charlm.network.model import LanguageModel
from corpora import token_file
from data_pipeline import streams
from data_pipeline.rows import evaluation_rows
from flags.network import ModelConfig

V = 5
TEXT = (np.random.default_rng(0).integers(0, 2, 700).cumsum() % V).astype(np.uint8)


class Leaky(scoring.OneDevice):
  """A scorer in NumPy: each unit is a running mean of what it reads, and keeps its own share from token to token."""

  def __init__(self, keeps, scale, initial=0.0):
    random = np.random.default_rng(1)
    self.keeps, self.initial, self.read = np.asarray(keeps), initial, 0
    self.inputs, self.outputs = random.normal(size=(V, len(keeps))), scale * random.normal(size=(len(keeps), V))

  def initial_states(self, rows):
    return [np.full((rows, len(self.keeps)), self.initial)]

  def begin(self, states):
    return states[0]

  def states(self, carry):
    return [carry]

  def score(self, batch, carry):
    self.read += 1
    state, nats = np.where(batch.reset[:, None], self.initial, carry), 0.0
    for t in range(batch.weight.shape[1]):
      if batch.starts is not None:
        state = np.where(batch.starts[:, t, None], self.initial, state)
      state = self.keeps * state + (1 - self.keeps) * self.inputs[batch.tokens[:, t]]
      losses = references.nats((state @ self.outputs)[None], batch.tokens[None, :, t + 1])[0]
      nats += (losses * batch.weight[:, t]).sum()
    return [(nats, batch.weight.sum())], state


def cut(text, batch_size, length, starts=None):
  """-> batches in NumPy, and their rows."""
  rows = evaluation_rows(len(text), batch_size, length)
  batches = streams.evaluation_stream(text, rows, length=length, starts=starts)
  return [streams.Batch(*(x if x is None else x.numpy() for x in batch)) for batch in batches], rows


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(2, len(TEXT)), st.integers(1, 12), st.integers(1, 80), st.floats(0, 0.9999), st.floats(0.1, 5),
       st.lists(st.integers(1, len(TEXT)), max_size=3), st.booleans())
@example(14, 9, 1, 0.125, 1.0, [], False)
@example(72, 7, 1, 0.5, 5.0, [], False)
@example(310, 7, 1, 0.75, 4.0, [], False)
def test_any_rows_and_chunks_give_the_loss_of_one_row(tokens, batch_size, length, keeps, scale, starts, documents):
  text, starts = TEXT[:tokens], np.unique([0, *starts]) if documents else None
  leaky = Leaky([0.2, keeps, keeps**0.1], scale, initial=0.5)
  one, many = (scoring.accumulate(leaky, *cut(text, *sizes, starts)) for sizes in ((1, tokens), (batch_size, length)))
  assert one[1] == many[1] == tokens - 1
  assert many[0] / many[1] == pytest.approx(one[0] / one[1], abs=1e-4)


def test_a_model_that_forgets_is_read_again_less_often():
  batches, rows = cut(TEXT, 4, 5)
  quick, slow = Leaky([0.0, 0.1], 1.0), Leaky([0.99999], 1.0)
  for leaky in quick, slow:
    scoring.accumulate(leaky, batches, rows)
  assert len(batches) < quick.read <= 2 * len(batches) + 4
  assert slow.read == 4 * len(batches)  # as often as there are rows, which is exact


def test_what_is_not_finite_is_not_read_again_and_again():
  batches, rows = cut(TEXT, 6, 5)
  leaky = Leaky([np.nan], 1.0)
  assert np.isnan(scoring.accumulate(leaky, batches, rows)[0])
  assert leaky.read <= len(batches) + 1


def plain_loop(one, text):
  """nats of a text, one token after the other, in float64."""
  weights, nats = slow_model.weights(one), 0.0
  state = slow_model.initial(one, weights)
  for token, target in itertools.pairwise(text):
    logits, state = slow_model.read(one, weights, token, state)
    nats += references.nats(logits[None, None], np.array([[target]]))[0, 0]
  return nats


@pytest.mark.parametrize('options', [
    dict(units=16, update_bias=-6.0), dict(cell='lstm', forget_bias=6.0, layers=1, units=16)], ids=['gru', 'lstm'])
@pytest.mark.parametrize('batch_size,length', [(7, 16), (3, 100)])
def test_models_that_remember_long_agree_with_a_plain_loop(tmp_path, options, batch_size, length):
  one = LanguageModel(ModelConfig(**{**dict(embedding_size=4, input_units=8), **options}), V, seed=1)
  file = token_file(tmp_path, TEXT)
  nats, tokens = scoring.score_file(scoring.PlainScorer(one), file, batch_size=batch_size, length=length)
  assert nats / tokens == pytest.approx(plain_loop(one, TEXT) / (len(TEXT) - 1), abs=1e-5)
