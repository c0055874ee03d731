"""charlm-sample: what it prints, from stubs that write known text, and once for real."""
import io
import os
import signal
import sys

import numpy as np
import pytest

from charlm.commands import sample
from charlm.network.model import LanguageModel
from charlm.workdir import checkpoint, layout
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.config import Config
from flags.errors import UserError
from flags.generation import SampleConfig
from flags.network import ModelConfig

BYTES = ByteTokenizer()


class Script:
  """A writer whose texts are given. A context is (what was read and written, tokens written)."""

  def __init__(self, *texts):
    self.texts = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    self.calls = []

  def read(self, ids, context=None):
    history, written = context or (b'', 0)
    return history + BYTES.decode(ids), written

  def write(self, length, context):
    self.calls.append(length)
    history, written = context
    tokens = np.stack([np.resize(np.roll(text, -written), length) for text in self.texts])
    return tokens, (history + BYTES.decode(tokens[0]), written + length)


@pytest.mark.parametrize('cut', [1, 2, 3, 5, 100])
@pytest.mark.parametrize('written, stop, shown, stopped', [
    ('caffè è 😀 così', '', 'caffè è 😀 così', False),
    ('one\ntwo\nthree', '\nthree', 'one\ntwo', True),
    ('one two', 'x', 'one two', False),
    ('aaaaab', 'aab', 'aaa', True),
    ('ababac', 'abac', 'ab', True),
    ('the aa', 'aab', 'the aa', False),
    ('è così 😀😁 x', '😁', 'è così 😀', True),
    ('stop at once', 'stop', '', True)])
def test_text_is_the_same_however_it_comes(written, stop, shown, stopped, cut):
  ids, text, parts = BYTES.encode(written), sample.Text(BYTES, stop), []
  for start in range(0, len(ids), cut):
    parts.append(text.push(ids[start:start + cut]))
    assert '\ufffd' not in parts[-1]
  assert ''.join([*parts, text.end()]) == shown
  assert text.stopped == stopped


def test_text_holds_back_no_more_than_it_must():
  text = sample.Text(BYTES, '\n\n')
  assert [text.push([byte]) for byte in b'a\nb\n\nc'] == ['a', '', '\nb', '', '', '']


def test_a_text_goes_on_within_a_character_and_may_end_within_one():
  prompt, rest = b'caff\xc3', b'\xa8!\xc3'
  text = sample.Text(BYTES, prompt=prompt)
  assert (text.opening, text.push(list(rest)), text.end()) == ('caff', 'è!', '')


def test_the_stop_string_counts_in_what_is_written_only():
  text = sample.Text(BYTES, 'ab', prompt=b'ab a')
  assert (text.opening, text.push(list(b'bcab'))) == ('ab a', 'bc')


def write(capsys, *texts, prompt=b'', **chosen):
  writer = Script(*texts)
  sample.write_samples(writer, BYTES, SampleConfig(num_samples=len(texts), **chosen), '--prompt', prompt)
  return capsys.readouterr().out, writer


@pytest.mark.parametrize('length, expected', [
    (4, 'So: one \n'), (8, 'So: one two\n'), (70, 'So: ' + 8 * 'one two\n' + 'one tw\n')])
def test_one_sample_is_the_prompt_and_what_follows(capsys, length, expected):
  assert write(capsys, 'one two\n', prompt=b'So: ', length=length)[0] == expected


def test_several_samples_stand_under_titles(capsys):
  out, _ = write(capsys, 'one ', 'two\n', 'drei', prompt='→'.encode(), length=4)
  assert out == '==> sample 1 of 3 <==\n→one \n==> sample 2 of 3 <==\n→two\n==> sample 3 of 3 <==\n→drei\n'


def test_writing_ends_when_every_text_has_stopped(capsys):
  out, writer = write(capsys, 'a.bc', 'def.', length=10_000, stop='.')
  assert out == '==> sample 1 of 2 <==\na\n==> sample 2 of 2 <==\ndef\n'
  assert sum(writer.calls) == sample.SHOW_EVERY


def test_a_line_end_may_stop(capsys):
  assert write(capsys, 'one\ntwo', stop=r'\n')[0] == 'one\n'


def test_the_first_text_is_shown_as_it_is_written(monkeypatch):
  shown = []
  monkeypatch.setattr(sample, 'show', shown.append)
  sample.write_samples(Script('abcdefgh'), BYTES, SampleConfig(length=128), '--prompt', b'So: ')
  assert shown == ['So: ', 'abcdefgh' * 8, 'abcdefgh' * 8, '\n']


def interact(capsys, writer, lines, prompt=b'', tokenizer=BYTES, **chosen):
  sample.interact(writer, tokenizer, SampleConfig(interactive=True, **chosen), '--prompt', prompt, lines)
  return capsys.readouterr()


class Remember(Script):
  """A script that keeps what the model has seen before each line is answered."""

  def read(self, ids, context=None):
    context = super().read(ids, context)
    self.history = context[0]
    return context


def test_lines_are_answered_with_the_state_carried_on(capsys):
  writer = Remember('abcdefgh')
  assert interact(capsys, writer, [b'one', b'two', b'x'], length=4).out == 'abcd\nefgh\nabcd\n'
  assert writer.history == b'oneabcdtwoefghx'


def test_an_empty_line_lets_the_model_go_on_and_an_empty_start_reads_a_newline(capsys):
  writer = Remember('abcdefgh')
  assert interact(capsys, writer, [b'', b'', b'x'], length=3).out == 'abc\ndef\ngha\n'
  assert writer.history == b'\nabcdefx'


def test_the_prompt_comes_before_the_first_line(capsys):
  writer = Remember('abcd')
  assert interact(capsys, writer, [b'x'], prompt=b'So: ', length=4).out == 'So: \nabcd\n'
  assert writer.history == b'So: x'


def test_the_model_has_read_no_further_than_the_stop_string(capsys):
  writer = Remember('ab; cdef')
  assert interact(capsys, writer, [b'x', b'y'], length=50, stop='; ').out == 'ab\ncdefab\n'
  assert writer.history == b'xab; y'


def test_a_line_that_cannot_be_read_is_told_and_passed_over(capsys):
  done = interact(capsys, Script('\1\2\3'), [b'\xff', b'b'], tokenizer=CharTokenizer('\nab'), length=3)
  assert 'this line: byte 0xff at offset 0' in done.err
  assert done.out == '\nab\n'


def test_ctrl_c_ends_the_answer_only(capsys):
  class Interrupted(Script):
    def write(self, length, context):
      if len(self.calls) == 1:
        os.kill(os.getpid(), signal.SIGINT)
      return super().write(length, context)

  writer = Interrupted('abcdefgh')
  before = signal.getsignal(signal.SIGINT)
  out = interact(capsys, writer, [b'x', b'y'], length=192).out
  assert out == 'abcdefgh' * 16 + '\n' + 'abcdefgh' * 24 + '\n'
  assert signal.getsignal(signal.SIGINT) is before


def test_lines_come_from_a_pipe_whatever_their_bytes_are(monkeypatch):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'one\n\n\xff\xc3\xa8'), 'utf-8'))
  assert list(sample.typed_lines()) == [b'one', b'', b'\xff\xc3\xa8']


def test_unknown_characters_are_named(capsys):
  tokenizer = CharTokenizer('\nabc')
  assert sample.encode(tokenizer, '--prompt', 'aßbλaß'.encode()).tolist() == [2, 0, 3, 0, 2, 0]
  assert capsys.readouterr().err == "warning: --prompt: the model has never seen 'ß' 'λ'\n"
  sample.encode(tokenizer, '--prompt', ''.join(map(chr, range(0x100, 0x130))).encode())
  assert capsys.readouterr().err.endswith("'ē' and 28 more\n")
  sample.encode(tokenizer, '--prompt', b'abc\n')
  sample.encode(BYTES, '--prompt', b'\xff\xc3 and anything')
  assert capsys.readouterr().err == ''


def test_a_prompt_that_is_not_utf8_is_refused_where_it_matters():
  with pytest.raises(UserError, match=r'^--prompt_file=x: byte 0xff at offset 2 is not UTF-8: .* char tokenizer'):
    sample.encode(CharTokenizer('\nabc'), '--prompt_file=x', b'ab\xffc')


def test_prompt_file_is_read_as_it_is(tmp_path):
  path = tmp_path / 'prompt'
  path.write_bytes(b'\xff\r\n\xc3')
  assert sample.read_prompt(SampleConfig(prompt_file=str(path))) == (f'--prompt_file={path}', b'\xff\r\n\xc3')
  assert sample.read_prompt(SampleConfig(prompt='è\udcff')) == ('--prompt', b'\xc3\xa8\xff')
  path.write_bytes(b'')
  with pytest.raises(UserError, match=f'^--prompt_file={path}: is empty; expected text'):
    sample.read_prompt(SampleConfig(prompt_file=str(path)))
  for wrong in (tmp_path, tmp_path / 'missing'):
    with pytest.raises(UserError, match=r'^--prompt_file=.*: expected a file that can be read'):
      sample.read_prompt(SampleConfig(prompt_file=str(wrong)))


def test_speed_leaves_out_the_first_call(monkeypatch):
  clock = iter([0.0, 100.0, 100.0, 101.0, 101.0, 102.0])
  monkeypatch.setattr(sample.time, 'perf_counter', lambda: next(clock))
  writer = sample.Timed(Script('ab', 'cd'))
  context = writer.read(np.array([1]))
  assert writer.summary() == '0 tokens'
  for _ in range(3):
    _, context = writer.write(50, context)
  assert writer.summary() == '300 tokens, 100 per second'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A workdir with an untrained model."""
  folder = tmp_path_factory.mktemp('workdir')
  config = Config(model=ModelConfig(embedding_size=8, input_units=16, units=16))
  layout.save_config(folder, config, CharTokenizer('\n abcdefg'))
  arrays = checkpoint.collect('model', LanguageModel(config.model, 10).variables)
  tokenizer = CharTokenizer('\n abcdefg').fingerprint
  checkpoint.save(folder, 5, arrays, {'step': 5, 'tokenizer': tokenizer, 'best_nats': None, 'best_step': 0})
  return folder


@pytest.fixture
def command(trained, capsys):
  """-> what charlm-sample prints."""
  def run(*flags, status=None):
    if status:
      with pytest.raises(SystemExit) as ended:
        sample.run(['charlm-sample', *flags])
      assert ended.value.code == status
    else:
      sample.run(['charlm-sample', f'--workdir={trained}', *flags])
    return capsys.readouterr()

  return run


def test_command_writes_the_same_text_for_the_same_seed(command):
  one = command('--prompt=bad cab', '--length=70', '--seed=3')
  assert one.err == '' and one.out.startswith('bad cab') and 70 <= len(one.out) - len('bad cab') <= 71
  assert one == command('--prompt=bad cab', '--length=70', '--seed=3')
  assert one != command('--prompt=bad cab', '--length=70', '--seed=4')


def test_command_writes_the_first_of_several_texts_as_it_writes_one(command):
  one = command('--prompt=bad', '--length=40').out
  texts = command('--prompt=bad', '--length=40', '--num_samples=3').out.split('==> sample ')[1:]
  assert texts[0] == f'1 of 3 <==\n{one}'
  assert len({text.partition('\n')[2] for text in texts}) == 3


def test_command_answers_lines_from_a_pipe(command, monkeypatch):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO('a\nß'.encode()), 'utf-8'))
  done = command('--interactive', '--length=5', '--temperature=0')
  assert done.out.count('\n') >= 2
  assert "this line: the model has never seen 'ß'" in done.err


@pytest.mark.parametrize('flags, named', [
    (['--workdir=/none'], '--workdir=/none'), ([], '--workdir'), (['--temperature=-1'], '--temperature=-1.0'),
    (['--prompt_file=/none/x'], '--prompt_file=/none/x'), (['--prompt=x', '--prompt_file=y'], '--prompt')])
def test_command_tells_mistakes_in_one_line(command, flags, named):
  done = command(*flags, status=2)
  assert done.err.startswith(f'charlm-sample: {named}') and done.err.count('\n') == 1
