"""What the signatures answer, for each tokenizer and structure, and that they are one model."""
import json

import numpy as np
import pytest
import tensorflow as tf

from charlm.generation.prompts import encode_prompt
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session
from charlm.serving import blocks, parts, reading

KINDS = ['byte', 'char', 'sentencepiece']
ALL = [('byte', 'gru'), ('char', 'lstm'), ('sentencepiece', 'gru'),
       *(pytest.param(pair, marks=pytest.mark.slow) for pair in [('char', 'plain'), ('byte', 'residual')])]
PROMPTS = ['', 'ab', 'b a c', 'caffè']


@pytest.fixture(params=ALL, ids=lambda pair: '-'.join(pair), scope='module')
def served(request, serve):
  return serve(*request.param)


def close(a, b, text=''):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=text)


def log_probs(served, ids):
  """[N, V] of the token after each."""
  outputs, _ = served.model(np.asarray(ids)[None], served.model.initial_state(1))
  return tf.nn.log_softmax(outputs.logits[0]).numpy()


def test_generate_writes_what_the_model_writes(served):
  """The same prompt and seed give what charlm-sample gives, and log_prob is that of the text that came out."""
  answer = served.generate(PROMPTS, 20, temperature=0.9, top_k=5, top_p=0.95, seed=3)
  session = Session(served.model, row_seeds(3, 1), temperature=0.9, top_k=5, top_p=0.95)
  for i, prompt in enumerate(PROMPTS):
    ids = encode_prompt(served.tokenizer, prompt.encode())
    tokens, *_ = session.write(20, session.read([ids]))
    assert answer['text_bytes'][i] == served.tokenizer.decode(tokens[0])
    found = log_probs(served, np.concatenate([ids, tokens[0]]))[len(ids) - 1:-1]
    close(answer['log_prob'][i], found[np.arange(20), tokens[0]].sum())


def test_score_is_the_likelihood_after_an_empty_prompt(served):
  texts = ['', 'a', 'the cat sat on the mat, caffè' * 5, 'c\0d\n']
  answer = served.ask('score', text=texts)
  start = encode_prompt(served.tokenizer, b'')
  for i, text in enumerate(texts):
    ids = served.tokenizer.encode(text)
    found = log_probs(served, np.concatenate([start, ids]))
    close(answer['log_prob'][i], found[np.arange(len(ids)), ids].sum())
    assert [answer[name][i] for name in ('num_tokens', 'num_bytes', 'num_characters')] == [
      len(ids), len(text.encode()), len(text)]
  assert np.isfinite(answer['log_prob']).all()


def test_prefill_and_append_and_step_read_one_text(served):
  """In one piece, in two, and token by token: the same state and predictions, which are the model's."""
  whole = served.ask('prefill', prompt=['the cat', 'ab', ''])
  for i, text in enumerate(['the cat', 'ab', '']):
    close(whole['log_probs'][i], log_probs(served, encode_prompt(served.tokenizer, text.encode()))[-1])
  begun = served.ask('prefill', prompt=['the ', 'ab', ''])
  both = served.ask('append', prompt=['cat', '', ''], state=begun['state'])
  assert np.isfinite(whole['log_probs']).all()
  ids = served.tokenizer.encode('cat')
  if served.tokenizer.kind != 'sentencepiece':  # which has other pieces for the two parts
    close(both['state'], whole['state'])
  close(both['state'][1:], begun['state'][1:])
  stepped = {'state': begun['state'][:1]}
  for token in ids:
    stepped = served.ask('step', token=[token], state=stepped['state'])
    assert stepped['token_bytes'][0] == served.tokenizer.pieces[token]
  close(stepped['state'], both['state'][:1])
  close(stepped['log_probs'], both['log_probs'][:1])


def test_generate_is_prefill_and_continue_by_blocks(served):
  """Also where the client keeps the state as JSON of nine digits, and blocks are of other sizes in each row."""
  seeds, options = [5, 6, 7, 8], dict(temperature=0.9, top_k=7)
  whole = served.generate(PROMPTS, 90, seed=seeds, **options)
  state, position = served.ask('prefill', prompt=PROMPTS)['state'], np.zeros(4, int)
  text, log_prob = [b''] * 4, 0
  for sizes in ([1, 40, 63, 64], [64, 1, 0, 26], [25, 49, 27, 0]):
    state = np.array(json.loads(json.dumps([[float(f'{x:.9g}') for x in row] for row in state.tolist()])))
    part = served.ask('continue', state=state, position=position, **served.options(sizes, seed=seeds, **options))
    assert part['num_tokens'].tolist() == sizes
    text = [a + b for a, b in zip(text, part['text_bytes'], strict=True)]
    state, position, log_prob = part['state'], position + sizes, log_prob + part['log_prob']
  assert text == whole['text_bytes'].tolist()
  close(log_prob, whole['log_prob'])


def test_generate_is_prefill_and_steps(served):
  """At temperature 0 the client can choose the tokens itself."""
  whole = served.generate(PROMPTS, 12, temperature=0.0)
  answer, text = served.ask('prefill', prompt=PROMPTS), [b''] * 4
  for _ in range(12):
    answer = served.ask('step', token=answer['log_probs'].argmax(1), state=answer['state'])
    text = [a + b for a, b in zip(text, answer['token_bytes'], strict=True)]
  assert text == whole['text_bytes'].tolist()


def test_a_row_depends_on_its_own_inputs_alone(served):
  options = {'max_new_tokens': [0, 70, 1, 20], 'temperature': [1.0, 0.0, 0.5, 2.0], 'top_k': [0, 0, 3, 0],
             'top_p': [1.0, 1.0, 0.5, 1.0], 'seed': [1, 2, 2**40, -1]}
  together = served.generate(PROMPTS, **options)
  assert together['num_tokens'].tolist() == options['max_new_tokens']
  for rows in ([0], [1], [2], [3], [3, 1, 0, 2], [2, 2, 1]):
    alone = served.generate([PROMPTS[i] for i in rows], **{k: [v[i] for i in rows] for k, v in options.items()})
    assert alone['text_bytes'].tolist() == together['text_bytes'][rows].tolist()
    close(alone['log_prob'], together['log_prob'][rows])
  assert together['text'][0] == b'' and together['log_prob'][0] == 0
  texts = ['a cat', '', 'the mat', 'sat on the mat' * 9]
  scores, states = served.ask('score', text=texts), served.ask('prefill', prompt=texts)
  for rows in ([0], [3], [3, 1, 0, 2]):
    given = [texts[i] for i in rows]
    close(served.ask('score', text=given)['log_prob'], scores['log_prob'][rows])
    close(served.ask('prefill', prompt=given)['state'], states['state'][rows])


def test_no_rows_are_answered_with_none(serve):
  served = serve('byte')
  for name, inputs in [('generate', {'prompt': [], **served.options()}), ('score', {'text': []}),
                       ('prefill', {'prompt': []}), ('serving_default', {'prompt': []})]:
    assert {len(value) for value in served.ask(name, **inputs).values()} == {0}, name
  state = np.zeros([0, served.served.state_size])
  assert len(served.ask('step', token=[], state=state)['token_bytes']) == 0
  assert len(served.ask('append', prompt=[], state=state)['state']) == 0
  assert len(served.ask('continue', state=state, position=[0], **served.options())['text_bytes']) == 0


def test_long_texts_are_read_in_blocks_and_parts(serve, monkeypatch):
  """Blocks bound the memory, parts save time; the result does not depend on them."""
  served, texts = serve('byte'), ['the cat sat' * 40, 'on', '', 'the mat' * 20]
  scores, states = served.ask('score', text=texts), served.ask('prefill', prompt=texts)
  for module, name, value in ((blocks, 'BLOCK_TOKENS', 50), (reading, 'BLOCK_LOGITS', 3 * 256),
                              (parts, 'PART_TOKENS', 60), (parts, 'SEGMENT', 8)):
    monkeypatch.setattr(module, name, value)
  reader, initial = served.model.reader(), served.model.initial_state(4)
  ids = served.tokenizer.encode_tf(tf.constant(texts)).with_row_splits_dtype(tf.int64)
  found = np.abs(reading.log_probs(reader, ids, ord('\n'), initial) - scores['log_prob'])
  assert (found <= 1e-4 * np.maximum(scores['num_tokens'], 1)).all()
  filled = [0, 1, 3]  # an empty prompt stands for a line end, in the signature
  state = tf.concat(tf.nest.flatten(reading.prefill(reader, ids, initial)), 1)
  close(state.numpy()[filled], states['state'][filled])


def test_reading_computes_no_logits(serve):
  served = serve('byte')
  reader = served.model.reader()._replace(logits=lambda state: pytest.fail('logits were computed'))
  ids = served.tokenizer.encode_tf(tf.constant(['the cat', 'a']))
  close(reading.prefill(reader, ids, served.model.initial_state(2))[0][:, 0],
        served.ask('prefill', prompt=['the cat', 'a'])['state'][:, 0])


def test_serving_default_is_generate_with_the_options_of_the_export(serve):
  served = serve('char', 'gru', length=30, temperature=0.5, top_k=4, top_p=0.9, seed=7)
  wanted = served.generate(PROMPTS, 30, temperature=0.5, top_k=4, top_p=0.9, seed=7)['text']
  assert served.ask('serving_default', prompt=PROMPTS)['text'].tolist() == wanted.tolist()


@pytest.mark.parametrize('kind', KINDS)
def test_hard_prompts(serve, kind):
  """Whatever the bytes, the answer is a text, and `text` is valid UTF-8."""
  prompts = [b'\xff\xfe', b'ab\xc3', '\u20ac'.encode(), b'\0', '\U0001f600漢'.encode(), b'a' * 5000]
  served = serve(kind)
  answer = served.generate(prompts, 50, temperature=5.0, seed=range(6))
  for text, raw in zip(answer['text'], answer['text_bytes'], strict=True):
    assert text.decode().rstrip('\ufffd') == raw.decode('utf-8', 'replace').rstrip('\ufffd')
  assert np.isfinite(answer['log_prob']).all() and np.isfinite(served.ask('score', text=prompts)['log_prob']).all()


def test_odd_options_are_taken_as_the_nearest_that_make_sense(serve):
  served, nan, inf = serve('byte'), float('nan'), float('inf')

  def text(**options):
    return served.generate(['a'], 15, seed=3, **options)['text_bytes'][0]

  greedy, free = text(temperature=0.0), text()
  assert served.generate(['a'], -5)['num_tokens'] == [0] and greedy != free
  for temperature in (-1.0, -inf, nan, 1e-40):
    assert text(temperature=temperature) == greedy, temperature
  assert text(top_k=1) == text(top_p=-1.0) == text(top_p=0.0) == text(top_p=1e-40) == greedy
  assert text(top_k=-3) == text(top_k=2**31 - 1) == text(top_p=nan) == text(top_p=inf) == text(top_p=7.0) == free
  assert len(text(temperature=inf)) == 15 and text(temperature=inf) != free
  state = served.ask('prefill', prompt=['a'])['state']
  assert served.ask('continue', state=state, position=[-9], **served.options(15, seed=3))['text_bytes'][0] == free


def refused(served, name, **inputs):
  with pytest.raises(tf.errors.InvalidArgumentError) as caught:
    served.ask(name, **inputs)
  return caught.value.message


def test_requests_that_make_no_sense_are_refused_by_name(serve):
  served = serve('byte', 'gru', max_new_tokens=50, max_prompt_tokens=100, max_batch_tokens=150, length=20)
  size = served.served.state_size
  state = np.zeros([2, size])
  ask = served.options(2)
  assert 'seed has shape [3]: expected [2]' in refused(served, 'generate', prompt=['a', 'b'],
                                                       **served.options(seed=[1, 2, 3]))
  assert 'position has shape [0]: expected [2]' in refused(served, 'continue', state=state, position=[], **ask)
  assert 'token has ids from -1 to 5: expected 0 to 255' in refused(served, 'step', token=[5, -1], state=state)
  assert 'token has ids from 0 to 256' in refused(served, 'step', token=[256, 1], state=state)
  assert f'state has shape [2,{size}]: expected 1 rows' in refused(served, 'append', prompt=['a'], state=state)
  assert f'state has shape [2,{size}]: expected 3 rows' in refused(served, 'step', token=[1, 2, 3], state=state)
  for wrong in (float('nan'), float('inf'), -1e30):
    assert 'state has numbers that no model made' in refused(served, 'step', token=[1, 2], state=state + wrong)
  assert 'prompt has a row of 101 tokens: expected at most 100' in refused(served, 'prefill', prompt=['', 'a' * 101])
  assert 'text has a row of 101 tokens' in refused(served, 'score', text=['a' * 101])
  assert '153 tokens in all rows' in refused(served, 'generate', prompt=['a'] * 3, **served.options(999))
  assert '200 tokens in all rows' in refused(served, 'continue', state=np.zeros([4, size]), position=[0],
                                             **served.options(50))


def test_more_new_tokens_than_the_limit_are_the_limit(serve):
  served = serve('byte', 'gru', max_new_tokens=50, max_prompt_tokens=100, max_batch_tokens=150, length=20)
  assert served.generate(['a', 'b'], [2**31 - 1, 49])['num_tokens'].tolist() == [50, 49]


def test_a_model_for_servers_without_text_operations(serve):
  """Rows of ids, padded with ids below 0, in place of texts: the same answers."""
  ids, texts = serve('sentencepiece', 'gru', text_ops='none'), serve('sentencepiece', 'gru')
  assert set(ids.served.functions) == {'score', 'prefill', 'append', 'step', 'continue'}
  given = ['the cat', '', 'così è']
  rows = [ids.tokenizer.encode(text) for text in given]
  tokens = np.full([3, max(map(len, rows)) + 2], -1)
  for row, own in zip(tokens, rows, strict=True):
    row[:len(own)] = own
  for name, wanted in texts.ask('score', text=given).items():
    close(ids.ask('score', tokens=tokens)[name], wanted, name)
  state = texts.ask('prefill', prompt=given)['state']
  close(ids.ask('prefill', tokens=tokens)['state'], state)
  close(ids.ask('append', tokens=tokens, state=state)['state'], texts.ask('append', prompt=given, state=state)['state'])
  assert 'tokens has ids from' in refused(ids, 'prefill', tokens=tokens + 300)
