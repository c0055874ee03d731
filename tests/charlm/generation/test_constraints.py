"""Repetition penalty and bans: against an obvious twin, alone and with all other options; and what leaves nothing."""
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from charlm.generation import decoding
from charlm.generation.constraints import Constraints
from charlm.generation.random_streams import random_numbers, row_seeds
from charlm.generation.session import Session
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.errors import UserError
from hard_text import trained
from references import token_probabilities
from step_functions import TABLE, Chain, V, begin, chain

PIECES = [b'a', b'b', b'ab', b'\xc3', b'\xa9', b'bba', 'é'.encode()]
TOKENIZER = types.SimpleNamespace(vocab_size=V, pieces=PIECES, unknown_ids=[4])
PROMPT = [0, 2, 1]
LENGTH = 60


def flat(vocab_size):
  """A step after which all tokens are equally likely."""
  return lambda token, state: (tf.zeros([len(token), vocab_size]), state)


def completes(text, piece, ban):
  """Whether a banned text ends within or with the piece."""
  return any((text + piece)[:end].endswith(ban) for end in range(len(text) + 1, len(text + piece) + 1))


def constrained(logits, history, repetition_penalty=1.0, repetition_window=64, ban=(), ban_unknown=False):
  """The logits that a token is chosen by after some tokens."""
  logits, text = logits.copy(), b''.join(PIECES[token] for token in history)
  for token, piece in enumerate(PIECES):
    if token in history[-repetition_window:]:
      logits[token] -= np.log(repetition_penalty)
    if any(completes(text, piece, other.encode()) for other in ban) or (ban_unknown and token == 4):
      logits[token] = -np.inf
  return logits


def twin(numbers, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, **options):
  """numbers [length] -> tokens that follow the prompt, log-probabilities under the model itself."""
  history, tokens, log_probs = [*PROMPT], [], []
  for u in numbers:
    logits = TABLE[history[-1]] + np.sin(np.float64(sum(history)))
    p = token_probabilities(constrained(logits, history, **options), temperature, top_k, top_p, min_p)
    token = int(np.sum(np.cumsum(p) <= (u if temperature else 0) * p.sum()))
    log_probs.append(logits[token] - np.log(np.sum(np.exp(logits))))
    history.append(token)
    tokens.append(token)
  return tokens, log_probs


BANS = {'ban': ['bb', 'é', 'aba'], 'ban_unknown': True}
OPTIONS = [
    {'repetition_penalty': 1.5}, {'repetition_penalty': 4.0, 'repetition_window': 1},
    {'repetition_penalty': 3.0, 'repetition_window': 2}, {'repetition_penalty': 1e6, 'repetition_window': 5},
    {'repetition_penalty': 1.0, 'repetition_window': 2}, {'ban': ['a']}, {'ban': ['ab', 'ba']}, {'ban': ['é']},
    {'ban': ['aaa', 'a']}, {'ban_unknown': True}, BANS, {**BANS, 'repetition_penalty': 2.0, 'repetition_window': 3}]
NAMES = 'temperature', 'top_k', 'top_p', 'min_p'
CHOICES = [(1.0, 0, 1.0, 0.0), (0.0, 0, 1.0, 0.0), (0.6, 3, 0.9, 0.1), (1.0, 0, 1.0, 1.0), (1.0, 1, 1.0, 0.0),
           (1e6, 0, 1.0, 0.5)]


def write(options, rows, choices, cuts=(LENGTH,), jit_compile=False):
  """Some rows of the same prompt and seed, written in several calls."""
  constraints = Constraints(TOKENIZER, **options)
  advance, state = constraints.remember(chain, begin(rows)[1])
  prompts = tf.constant([[*PROMPT, 6], *[[*PROMPT, 0]] * (rows - 1)])
  logits, state = tf.function(lambda state: decoding.prefill(advance, prompts, tf.fill([rows], 3), state))(state)

  @tf.function(jit_compile=jit_compile)
  def call(logits, state, length, start):
    return decoding.generate(advance, logits, state, length=length, start=start, max_length=LENGTH, seed=5,
                             constrain=constraints.apply, **choices)

  start, tokens, log_probs = 0, [], []
  for length in cuts:
    part = call(logits, state, tf.constant(length), tf.constant(start, tf.int64))
    logits, state, start = part.logits, part.state, start + length
    tokens.append(part.tokens[:, :length])
    log_probs.append(part.log_probs[:, :length])
  return np.concatenate(tokens, 1), np.concatenate(log_probs, 1)


@pytest.mark.parametrize('options', OPTIONS)
def test_texts_agree_with_the_twin(options):
  """Beside all other choices, each in a row of its own."""
  numbers = random_numbers(tf.constant([5], tf.int64), 0, LENGTH)[:, 0, 0].numpy().astype('float64')
  columns = {name: tf.constant(column) for name, column in zip(NAMES, zip(*CHOICES, strict=True), strict=True)}
  tokens, log_probs = write(options, len(CHOICES), columns)
  for row, choices in enumerate(CHOICES):
    want, want_log_probs = twin(numbers, *choices, **options)
    assert tokens[row].tolist() == want, choices
    np.testing.assert_allclose(log_probs[row], want_log_probs, atol=1e-4)


@pytest.mark.parametrize('options, choices', [(BANS, {}), (OPTIONS[-1], {'temperature': 0.0}), (OPTIONS[-1], {
    'temperature': 0.6, 'top_k': 3, 'top_p': 0.9, 'min_p': 0.1})])
def test_a_text_is_the_same_from_any_number_of_calls_and_by_xla(options, choices):
  want = write(options, 2, choices)[0].tolist()
  assert write(options, 2, choices, (1,) * 7 + (53,))[0].tolist() == want
  assert write(options, 2, choices, (33, 27), jit_compile=True)[0].tolist() == want


@pytest.mark.parametrize('options', [BANS, {'repetition_penalty': 2.0, 'repetition_window': 3}])
def test_a_session_keeps_the_memory_from_call_to_call(options):
  def texts(*cuts):
    session = Session(Chain(), row_seeds(3, 2), temperature=0.7, constraints=Constraints(TOKENIZER, **options))
    state, parts = session.read([np.array(PROMPT, np.int32)]), []
    for length in cuts:
      part, _, state = session.write(length, state)
      parts.append(part)
    return np.concatenate(parts, 1).tolist()

  assert texts(100) == texts(1, 2, 64, 33) != texts(99, 1)[::-1]
  for text in texts(100):
    assert not any(ban.encode() in b''.join(PIECES[token] for token in text) for ban in options.get('ban', []))


def test_a_prompt_may_hold_what_is_banned_and_no_token_completes_it():
  constraints = Constraints(ByteTokenizer(), ban=['abc', 'é'])
  advance, state = constraints.remember(flat(256), tf.zeros([3, 1]))
  prompts = tf.constant([[*b'abcab'], [*b'xabc\xc3'], [*b'abcca']])
  logits, state = decoding.prefill(advance, prompts, tf.constant([5] * 3), state)
  banned = [np.flatnonzero(np.isinf(row)).tolist() for row in constraints.apply(logits, state).numpy()]
  assert banned == [[*b'c'], [0xa9], []]


def test_nothing_is_made_of_options_that_constrain_nothing():
  assert not Constraints(TOKENIZER, repetition_window=5)
  assert not Constraints(ByteTokenizer(), ban_unknown=True)  # it writes any text
  assert Constraints(CharTokenizer('ab'), ban_unknown=True)


@pytest.mark.parametrize('pieces', [[b'a', b'b'], [b'a', b'b', b'ab'], [b'aa', b'b', b'ba']])
@pytest.mark.parametrize('ban', [['a', 'b'], ['b', 'aa'], ['b', 'aaaa'], ['ab', 'ba'], ['aa', 'ab'], ['a'],
                                 ['aba', 'bab'], ['aa', 'bb', 'abab']])
def test_no_ban_leads_to_where_nothing_may_follow(pieces, ban):
  """By trying all texts of 8 tokens: one that may be written is there exactly where bans are not refused."""
  tokenizer = types.SimpleNamespace(vocab_size=len(pieces), pieces=pieces, unknown_ids=[])
  texts = {b''.join(text) for text in itertools.product(pieces, repeat=8)}
  free = [text for text in texts if not any(other.encode() in text for other in ban)]
  if not free:
    with pytest.raises(UserError, match=f'--ban={ban[0]} .*: expected fewer bans|--ban={ban[0]}: expected fewer bans'):
      Constraints(tokenizer, ban=ban)
    return
  constraints = Constraints(tokenizer, ban=ban)
  advance, state = constraints.remember(flat(len(pieces)), tf.zeros([9, 1]))
  written = decoding.generate(advance, tf.zeros([9, len(pieces)]), state, length=8, seed=np.arange(9),
                              constrain=constraints.apply).tokens.numpy()
  assert {b''.join(pieces[token] for token in row) for row in written} <= set(free)


def test_a_prompt_that_leads_to_where_nothing_may_follow_does_not_count():
  tokenizer = types.SimpleNamespace(vocab_size=2, pieces=[b'a', b'b'], unknown_ids=[])
  constraints = Constraints(tokenizer, ban=['aa', 'ab'])
  advance, state = constraints.remember(flat(2), tf.zeros([1, 1]))
  logits, state = decoding.prefill(advance, tf.constant([[0]]), tf.constant([1]), state)
  written = decoding.generate(advance, logits, state, length=5, constrain=constraints.apply).tokens
  assert written.numpy().tolist() == [[1] * 5]


def test_bans_too_long_for_a_table_are_refused():
  many = types.SimpleNamespace(vocab_size=2**20, pieces=[b'a'] * 2**20, unknown_ids=[])
  with pytest.raises(UserError, match='--ban: expected at most 31 bytes of text beside the 1,048,576 tokens'):
    Constraints(many, ban=['x' * 32])


@pytest.mark.parametrize('kind', ['char', 'sentencepiece', 'byte'])
def test_a_ban_of_the_unknown_holds_for_every_tokenizer(kind):
  tokenizer = trained(kind)
  constraints, zeros = Constraints(tokenizer, ban_unknown=True), tf.zeros([1, tokenizer.vocab_size])
  _, state = constraints.remember(flat(tokenizer.vocab_size), tf.zeros([1, 1]))
  banned = np.flatnonzero(np.isinf(constraints.apply(zeros, state)[0]))
  assert banned.tolist() == [i for i, piece in enumerate(tokenizer.pieces) if piece == '\ufffd'.encode()]
  assert len(banned) == (kind != 'byte')


@pytest.mark.parametrize('temperature', [0.0, 1e-38, 1e6, float('inf'), float('nan')])
def test_no_temperature_brings_back_what_is_banned(temperature):
  tokens, log_probs = write({'ban': ['a']}, 2, {'temperature': temperature})
  assert set(tokens.ravel()) <= {1, 3, 4, 6} and np.isfinite(log_probs).all()
