"""charlm.load: what a model writes, predicts and scores is what the commands do, alone or side by side."""
import gc
import math
import pickle
import string
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import charlm
import runs
import slow_model
from charlm.commands import sample
from charlm.generation import session
from charlm.interface import model as interface
from charlm.interface import writing
from charlm.workdir.trained_model import TrainedModel
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.config import Config
from flags.errors import RunError, UserError

LETTERS = '\n ,.IT' + string.ascii_lowercase
PROMPTS = ['It was', 'the best of times, it was the worst', '']


def opened(tokenizer, seed=0):
  """A model with random weights, quite sure of itself."""
  one = slow_model.random_model(tokenizer.vocab_size)
  one.output_kernel.assign(one.output_kernel * 3)
  state = {'step': seed, 'text': '', 'tokenizer': tokenizer.fingerprint}
  return TrainedModel(Config(model=one.config), tokenizer, one, state, 'last')


@pytest.fixture(scope='module')
def model():
  return charlm.Model(opened(CharTokenizer(LETTERS)))


@pytest.fixture(scope='module')
def bytewise():
  return charlm.Model(opened(ByteTokenizer()))


def texts(found):
  return [one.text for one in found]


def test_import_takes_no_tensorflow():
  code = "import sys, charlm, charlm.client; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, '-c', code], cwd=runs.ROOT).returncode == 0
  with pytest.raises(AttributeError, match='no attribute'):
    charlm.lead  # noqa: B018


def test_it_writes_what_charlm_sample_writes(finished, capsys):
  written = texts(charlm.load(finished).generate(PROMPTS[:2], length=90, seed=4, num_samples=2))
  for i, prompt in enumerate(PROMPTS[:2]):
    capsys.readouterr()
    sample.run(['charlm-sample', f'--workdir={finished}', f'--prompt={prompt}', '--length=90', f'--seed={4 + i}',
                '--num_samples=2'])
    assert capsys.readouterr().out == ''.join(
      f'==> sample {j + 1} of 2 <==\n{prompt}{text}' + '\n' * (not text.endswith('\n'))
      for j, text in enumerate(written[2 * i:2 * i + 2]))


@pytest.mark.parametrize('options', [{'temperature': 0, 'top_k': 3}, {'top_p': 0.9, 'stop': ['it', 'a']},
                                     {'repetition_penalty': 3, 'ban': ['e', 'it'], 'stop': 'o'}])
def test_each_text_is_what_it_would_be_alone(model, monkeypatch, options):
  together = model.generate(PROMPTS, length=70, seed=2, num_samples=2, **options)
  alone = [one for i, prompt in enumerate(PROMPTS)
           for one in model.generate([prompt], length=70, seed=2 + i, num_samples=2, **options)]
  assert [one[:2] + one[3:4] for one in together] == [one[:2] + one[3:4] for one in alone]
  np.testing.assert_allclose([one.log_prob for one in together], [one.log_prob for one in alone], rtol=1e-4)
  monkeypatch.setattr(writing, 'ROWS', 2)
  assert texts(model.generate(PROMPTS, length=70, seed=2, num_samples=2, **options)) == texts(together)
  for i, prompt in enumerate(PROMPTS):
    stream = model.stream(prompt, length=70, seed=2 + i, **options)
    assert ''.join(stream) == together[2 * i].text
    np.testing.assert_allclose(stream.state.logits, together[2 * i].state.logits, atol=1e-4)
    assert stream.state.written == together[2 * i].state.written == together[2 * i].num_tokens


def test_log_prob_is_that_of_score(model):
  for one in model.generate(['It was '], length=30, seed=1, num_samples=3, stop='s'):
    scored, = model.score([one.text + 's' * one.stopped], state=model.read('It was '))
    assert one.log_prob == pytest.approx(scored.log_prob, rel=1e-4)
    assert one.num_tokens == scored.num_tokens


def test_a_state_goes_on_where_a_text_ended(model):
  whole = model.generate(['It was'], length=60, seed=3)[0]
  state = model.read('It was')
  first = model.generate([''], length=25, seed=3, state=state)[0]
  second = model.generate([''], length=35, seed=3, state=first.state)[0]
  assert first.text + second.text == whole.text
  assert ''.join(model.stream(length=35, seed=3, state=first.state)) == second.text
  read = model.read(second.text, first.state)
  np.testing.assert_allclose(read.logits, whole.state.logits, atol=1e-4)
  np.testing.assert_allclose(read.network[0], whole.state.network[0], atol=1e-4)
  assert read.recent.tolist() == whole.state.recent.tolist()
  assert model.generate([''], length=5, state=state)[0].text == model.generate(['It was'], length=5)[0].text


def test_states_are_one_for_each_prompt_or_one_for_all(model):
  one, other = model.read('It was'), model.read('the worst of times')
  both = texts(model.generate(['', ' the'], length=9, state=[one, other]))
  assert both == [model.generate([''], length=9, state=one)[0].text,
                  model.generate([' the'], length=9, seed=1, state=other)[0].text]
  assert texts(model.generate(['', ''], length=9, state=one))[0] == both[0]
  for wrong, words in [([one], 'state: expected a state, or a list of 2, one for each text; found 1'),
                       (3, 'state=3: expected a state, as Model.read returns'),
                       ([one, 'x'], r'state\[1\]=x: expected a state')]:
    with pytest.raises(UserError, match=words):
      model.generate(['', ''], state=wrong)


def test_a_state_does_not_change_and_can_be_kept(model):
  state = model.read('It was')
  again = pickle.loads(pickle.dumps(state))
  assert model.generate([''], length=9, state=again)[0].text == model.generate([''], length=9, state=state)[0].text
  for array in (state.logits, again.logits, *again.network, again.recent):
    with pytest.raises(ValueError, match='read-only'):
      array[0] = 0
  with pytest.raises(AttributeError):
    state.written = 3
  assert len(pickle.dumps(model.read('It was the worst of times. ' * 900))) < 50_000


def test_a_state_of_another_model_is_refused(model, bytewise):
  other = charlm.Model(opened(ByteTokenizer(), seed=1))
  for state in (model.read('a'), other.read('a')):
    with pytest.raises(UserError, match='state: expected a state of this model, this one is of another'):
      bytewise.generate([''], state=state)


def test_long_prompts_are_read_in_parts(model, monkeypatch):
  whole = model.generate(['It was the best of times'], length=9)[0].text
  monkeypatch.setattr(session, 'READ_TOKENS', 5)
  assert charlm.Model(model.opened).generate(['It was the best of times'], length=9)[0].text == whole


def test_characters_are_whole_wherever_texts_are_cut(bytewise):
  first = bytewise.generate(['ü'.encode()[:1]], length=200)[0].text
  assert ''.join(bytewise.stream('ü'.encode()[:1], length=200)) == first
  after = bytewise.read('ü'.encode()[:1])
  assert bytewise.generate([''], length=200, state=after)[0].text == first
  whole = bytewise.generate(['ü'], length=9)[0].text
  assert bytewise.generate(['ü'.encode()[1:]], length=9, state=after)[0].text == whole


def test_next_has_the_likeliest_tokens_first(model):
  found = model.next('It w', n=1000)
  assert len(found) == model.opened.tokenizer.vocab_size
  assert sum(token.probability for token in found) == pytest.approx(1)
  assert [t.log_prob for t in found] == sorted((t.log_prob for t in found), reverse=True)
  assert found[0].text.encode() == found[0].bytes
  assert texts(model.next('It w', n=2)) == texts(model.next('w', n=2, state=model.read('It '))) == texts(found[:2])
  assert model.generate(['It w'], length=1, temperature=0)[0].text == found[0].text


def test_scores(model, bytewise):
  given = ['It was the best of times, it was', '', 'I']
  whole, empty, short = model.score(given, tokens=True)
  assert (whole.num_tokens, whole.num_bytes, whole.num_characters) == (32, 32, 32)
  assert [token.text for token in whole.tokens] == list(given[0])
  assert sum(token.log_prob for token in whole.tokens) == pytest.approx(whole.log_prob, rel=1e-6)
  assert whole.bits_per_byte == pytest.approx(-whole.log_prob / math.log(2) / 32)
  assert empty == (0, 0, 0, 0, []) and empty.bits_per_byte == empty.bits_per_character == 0
  assert short.log_prob == pytest.approx(next(t.log_prob for t in model.next('', n=99) if t.text == 'I'), abs=1e-4)
  assert model.score(given)[0].tokens is None
  assert bytewise.score([b'\xff\x80\x80abc'])[0].num_characters == 4  # as in training
  assert model.score([''], tokens=True) == model.score(['', ''], tokens=True)[1:] == [empty]


def test_scores_go_on_from_states(model):
  rest, nothing = model.score(['best of times, it was' * 9, ''], state=model.read('It was the '))
  same, start = model.score(['It was the ' + 'best of times, it was' * 9, 'It was the '])
  # The state is that after the prompt alone, where a scored text comes after an empty one.
  assert rest.log_prob == pytest.approx(same.log_prob - start.log_prob, rel=0.02)
  assert nothing.log_prob == 0
  state, total = model.read('It was the '), 0.0
  for letter in 'best of times':
    total += next(token.log_prob for token in model.next('', n=99, state=state) if token.text == letter)
    state = model.read(letter, state)
  assert model.score(['best of times'], state=model.read('It was the '))[0].log_prob == pytest.approx(total, rel=1e-4)


def test_what_constraints_look_back_on_is_in_the_state(model):
  options = {'length': 30, 'repetition_penalty': 1e6, 'repetition_window': 12, 'ban': ['was', 'zx']}
  whole = model.generate(['It wa'], **options)[0].text
  assert whole[0] != 's' and len(set(whole)) > 12
  assert model.generate([''], state=model.read('It wa'), **options)[0].text == whole
  assert model.generate(['a'], state=model.read('It w'), **options)[0].text == whole
  first = model.generate(['It wa'], **options | {'length': 7})[0]
  assert first.text + ''.join(model.stream(state=first.state, **options | {'length': 23})) == whole


@pytest.mark.parametrize('call, words', [
  (lambda m: m.generate('It was'), "prompts='It was': expected a list of texts"),
  (lambda m: m.generate(['a', 3]), r'prompts\[1\]=3: expected a text'),
  (lambda m: m.generate(['a\ud800']), r"prompts\[0\]: expected text, found half a character, '\\ud800', at index 1"),
  (lambda m: m.stream(7), 'prompt=7: expected a text'),
  (lambda m: m.generate(['a'], temperature=-1), '^temperature=-1.0: expected at least 0'),
  (lambda m: m.generate(['a'], temperature='hot'), '^temperature=hot: expected a number'),
  (lambda m: m.generate(['a'], temperature=float('nan')), '^temperature=nan: expected a finite number'),
  (lambda m: m.stream('a', length=0), '^length=0: expected at least 1'),
  (lambda m: m.generate(['a'], length=2.5), '^length=2.5: expected an integer'),
  (lambda m: m.generate(['a'], num_samples=0), '^num_samples=0: expected at least 1'),
  (lambda m: m.generate(['a'], seed=2**31), '^seed=2147483648: expected at least 0 and at most'),
  (lambda m: m.generate(['a'], stop=3), 'stop=3: expected a text, or a list of texts'),
  (lambda m: m.generate(['a'], ban=[3]), 'ban=3: expected text'),
  (lambda m: m.generate(['a'], stop=b'x'), "^stop=b'x': expected a text, or a list of texts"),
  (lambda m: m.generate(['a'], length=True), '^length=True: expected an integer'),
  (lambda m: m.stream('a', ban=list(LETTERS), ban_unknown=True), '^ban=.* ban_unknown: .* nothing to write'),
  (lambda m: m.generate(['a'], repetition_window=3), '^repetition_window=3 has no effect beside repetition_penalty=1'),
  (lambda m: m.next('a', n=0), 'n=0: expected an integer, at least 1'),
  (lambda m: m.score('text'), "texts='text': expected a list of texts"),
  (lambda m: m.read(None), 'text=None: expected a text'),
  (lambda m: m.generate([b'\xff']), r'prompts\[0\]: byte 0xff at offset 0 is not UTF-8'),
  (lambda m: charlm.load('/none'), '^workdir=/none: expected a folder'),
  (lambda m: charlm.load(None), '^workdir=None: expected a folder'),
  (lambda m: charlm.load(''), '^workdir: expected the folder of a trained model, such as workdir=runs/first'),
  (lambda m: charlm.load('/none', weights='worst'), '^weights=worst: expected one of best, last'),
])
def test_mistakes_are_told_in_one_line(model, call, words):
  with pytest.raises(UserError, match=words) as raised:
    call(model)
  assert '\n' not in str(raised.value)


def test_numbers_of_numpy_are_numbers(model):
  same = model.generate(['a'], length=5, temperature=0.5, seed=3)[0].text
  assert model.generate(['a'], length=np.int64(5), temperature=np.float64(0.5), seed=np.int32(3))[0].text == same
  assert model.generate([], length=5) == model.score([]) == []


def test_unknown_characters_are_told(model):
  with pytest.warns(UserWarning, match="prompt: the model has never seen 'ß'") as told:
    model.next('aß')
  assert told[0].filename == __file__


def test_weights_that_are_not_finite_are_refused():
  broken = opened(CharTokenizer('\nabc'))
  broken.model.output_bias.assign(np.full(5, np.nan))
  one = charlm.Model(broken)
  for call in (lambda: one.generate(['a']), lambda: one.next('a'), lambda: one.score(['a']), lambda: one.read('a')):
    with pytest.raises(RunError, match='not finite'):
      call()


def test_a_second_call_compiles_nothing(model):
  def counts():
    plain = model.session(interface.SampleConfig(), np.zeros(1))
    return plain.writer().experimental_get_tracing_count(), plain._read.experimental_get_tracing_count()

  model.generate(PROMPTS, length=3)
  before = counts()
  model.generate(['other', 'It', 'was'], length=70, temperature=0.3, seed=9)
  model.generate(['other', 'It', 'was', 'a'], length=70)
  assert counts() == before


def test_what_is_compiled_has_a_bound(bytewise):
  writers = [weakref.ref(bytewise.session(interface.SampleConfig(ban=(letter,)), np.zeros(1)).writer())
             for letter in string.ascii_lowercase]
  gc.collect()
  assert sum(writer() is not None for writer in writers) == interface.KEPT


def test_threads_share_a_model(model):
  wanted, found = model.generate(['It'], length=40, seed=5)[0].text, {}

  def write(i):
    found[i] = model.generate(['It'], length=40, seed=5, top_k=50 if i % 2 else 0)[0].text

  threads = [threading.Thread(target=write, args=[i]) for i in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert [found[i] for i in range(4)] == [wanted] * 4


def test_a_stream_may_be_left(model):
  stream = model.stream('It was', length=10**6)
  start = next(stream)
  stream.close()
  assert list(stream) == [] and 0 < len(start) < 30
  assert stream.state.written == 16 and model.generate([''], state=stream.state, length=3)


def test_nothing_is_printed(model, capsys):
  model.generate(['It was'], length=3)
  assert capsys.readouterr() == ('', '')
