"""The score of each token of many texts is that of each text by itself, in float64."""
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slow_model
from charlm.evaluation import scoring, text_rows, token_scores
from charlm.evaluation.text_rows import Layout, Shape, Tokens
from charlm.network.model import LanguageModel
from corpora import token_file
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.network import ModelConfig

TOKENIZER = CharTokenizer('\nabcd')  # token 1 is read before each text
TEXT = np.random.default_rng(0).integers(0, 6, 900).astype(np.uint8)


@pytest.fixture(scope='module')
def model():
  return slow_model.random_model(TOKENIZER.vocab_size)


def slowly(one, text, start=1):
  """log p of all tokens in the place of each token of a text [N, V], read one after the other."""
  weights, rows, state = slow_model.weights(one), [], None
  begins = {0, *text.documents}
  for i, token in enumerate([start, *text.ids[:-1]]):
    state = slow_model.initial(one, weights) if i in begins else state
    logits, state = slow_model.read(one, weights, token, state)
    rows.append(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
  return np.array(rows[:len(text.ids)]).reshape(len(text.ids), one.vocab_size)


TEXTS = [Tokens(TEXT[:0]), Tokens(TEXT[:1]), Tokens(TEXT[:70]), Tokens(TEXT[100:103]), Tokens(TEXT[:0]),
         Tokens(TEXT[200:350], [0, 1, 64, 149]), Tokens(TEXT[5:38])]


def test_each_text_is_scored_by_itself(model):
  scorer = token_scores.TokenScorer(model, TOKENIZER, guesses=3)
  for text, found in zip(TEXTS, scorer.scores(iter(TEXTS)), strict=True):
    wanted = slowly(model, text)
    np.testing.assert_allclose(found.nats, -wanted[np.arange(len(text.ids)), text.ids], rtol=1e-4, atol=1e-4)
    best = np.argsort(-wanted, 1)[:, :3]
    np.testing.assert_allclose(found.guess_nats, -np.take_along_axis(wanted, best, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(wanted, found.guesses, 1), np.take_along_axis(wanted, best, 1),
                               atol=1e-4)


@pytest.mark.parametrize('rows', [1, 5])
def test_a_long_text_has_the_scores_of_one_row(model, monkeypatch, rows):
  monkeypatch.setattr(text_rows, '_shape', lambda sizes, vocab_size: Shape(rows, 16))
  found, = token_scores.TokenScorer(model, TOKENIZER).scores([Tokens(TEXT)])
  wanted = -slowly(model, Tokens(TEXT))[np.arange(TEXT.size), TEXT]
  assert found.nats.mean() == pytest.approx(wanted.mean(), abs=1e-5)
  np.testing.assert_allclose(found.nats, wanted, rtol=0.01, atol=0.01)
  assert found.guesses.shape == found.guess_nats.shape == (TEXT.size, 0)


@pytest.mark.parametrize('guesses', [0, 3])
def test_texts_without_tokens_have_empty_scores(model, guesses):
  scores = [*token_scores.TokenScorer(model, TOKENIZER, guesses=guesses).scores([Tokens(TEXT[:0])] * 2)]
  for found in scores:
    assert found.nats.shape == (0,) and found.guesses.shape == found.guess_nats.shape == (0, guesses)
    assert [part.dtype for part in found] == [np.float32, np.int32, np.float32]
  assert len(scores) == 2


def test_groups_of_texts_are_scored_as_one(model, monkeypatch):
  wanted = [*token_scores.TokenScorer(model, TOKENIZER).scores(TEXTS)]
  monkeypatch.setattr(token_scores, 'GROUP_TOKENS', 80)
  taken = []
  found = token_scores.TokenScorer(model, TOKENIZER).scores(taken.append(text) or text for text in TEXTS * 2)
  for i, (one, other) in enumerate(zip(found, wanted * 2, strict=True)):
    np.testing.assert_allclose(one.nats, other.nats, atol=1e-5)
    assert len(taken) <= i + 6  # they are taken as they are needed
  assert not [*token_scores.TokenScorer(model, TOKENIZER).scores([])]


def test_it_is_the_figure_of_evaluation_and_the_first_token(tmp_path):
  one = LanguageModel(ModelConfig(embedding_size=4, input_units=8, units=16), 256, seed=1)
  nats, tokens = scoring.score_file(scoring.PlainScorer(one), token_file(tmp_path, TEXT))
  found, = token_scores.TokenScorer(one, ByteTokenizer()).scores([Tokens(TEXT)])
  first = -slowly(one, Tokens(TEXT[:1]), ord('\n'))[0, TEXT[0]]
  assert found.nats[0] == pytest.approx(first, abs=1e-4)
  assert tokens == TEXT.size - 1
  # The two differ in what the first token is read from, which a model soon forgets.
  assert found.nats[200:].mean() == pytest.approx(nats / tokens, rel=0.05)
  assert found.nats.sum() == pytest.approx(nats + first, rel=0.01)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=30), st.sampled_from([1, 2, 8]), st.sampled_from([8, 16, 64]))
def test_a_layout_has_each_token_once_after_the_one_before(lengths, rows, length):
  random = np.random.default_rng(1)
  texts = [Tokens(random.integers(1, 1000, n), random.integers(0, n + 1, 2)) for n in lengths]
  laid_out = Layout(texts, 7, 1000, Shape(rows, length))
  chunks = [*laid_out]
  assert all(chunk.inputs.shape == (rows, length) for chunk in chunks) and len(chunks) * length == laid_out.rows.length
  for text, inputs, targets in zip(texts, *(laid_out.of_texts([getattr(chunk, name) for chunk in chunks])
                                            for name in ('inputs', 'targets')), strict=True):
    assert targets.tolist() == text.ids.tolist()
    assert inputs.tolist() == [7, *text.ids.tolist()][:len(text.ids)]
  row = laid_out.rows.length
  starts = np.flatnonzero(np.stack([chunk.reset for chunk in chunks], 1).ravel()) * length
  sizes = [size for text in texts for size in np.diff(np.unique([0, *text.documents, len(text.ids)]))]
  assert len(starts) == len(sizes)
  for place, size in zip(starts, sizes, strict=True):
    assert -(-size // length) * length * text_rows.UNCUT > row or place // row == (place + size - 1) // row


@pytest.mark.parametrize('lengths,vocab_size,shape', [
  ([10**6], 256, (128, 64)), ([2000], 256, (1, 64)), ([20] * 5000, 256, (128, 32)), ([5] * 9, 256, (2, 8)),
  ([10**6], 10**5, (64, 8)), ([10**6], 10**6, (8, 8))])
def test_chunks_suit_the_texts_and_the_memory(lengths, vocab_size, shape):
  assert Layout([Tokens(np.zeros(n, int)) for n in lengths], 0, vocab_size).shape == shape


def test_evaluation_reads_what_is_laid_out():
  laid_out = Layout([Tokens(np.arange(5)), Tokens(np.arange(10, 13))], 99, 256, Shape(2, 4))
  assert [[*chunk.inputs.tolist(), *chunk.reset.tolist()] for chunk in laid_out] == [
    [[99, 0, 1, 2], [99, 10, 11, 0], True, True], [[3, 0, 0, 0], [0, 0, 0, 0], False, False]]
  assert [*itertools.chain(*(row.tolist() for row in laid_out.of_texts([c.targets for c in laid_out])))] == [
    0, 1, 2, 3, 4, 10, 11, 12]
