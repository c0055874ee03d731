"""What is printed, from stubs that write known text."""
import io
import os
import signal
import sys

import numpy as np
import pytest

from charlm.generation import terminal
from charlm.generation.prompts import Prompt
from charlm.generation.session import Written
from data_pipeline.tokenizers.byte import ByteTokenizer
from data_pipeline.tokenizers.char import CharTokenizer
from flags.generation import SampleConfig

BYTES = ByteTokenizer()


class Script:
  """A session whose texts are given. A state is (what was read and written, tokens written)."""

  def __init__(self, *texts):
    self.texts = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    self.calls = []

  def read(self, prompts, state=None):
    ids, = prompts
    history, written = state or (b'', 0)
    return history + BYTES.decode(ids), written

  def write(self, length, state):
    self.calls.append(length)
    history, written = state
    tokens = np.stack([np.resize(np.roll(text, -written), length) for text in self.texts])
    return Written(tokens, np.zeros(tokens.shape), (history + BYTES.decode(tokens[0]), written + length))


def write(capsys, *texts, prompt=b'', **chosen):
  session = Script(*texts)
  terminal.write_samples(session, BYTES, SampleConfig(num_samples=len(texts), **chosen), Prompt('--prompt', prompt))
  return capsys.readouterr().out, session


@pytest.mark.parametrize('length, expected', [
    (4, 'So: one \n'), (8, 'So: one two\n'), (70, 'So: ' + 8 * 'one two\n' + 'one tw\n')])
def test_one_sample_is_the_prompt_and_what_follows(capsys, length, expected):
  assert write(capsys, 'one two\n', prompt=b'So: ', length=length)[0] == expected


def test_several_samples_stand_under_titles(capsys):
  out, _ = write(capsys, 'one ', 'two\n', 'drei', prompt='→'.encode(), length=4)
  assert out == '==> sample 1 of 3 <==\n→one \n==> sample 2 of 3 <==\n→two\n==> sample 3 of 3 <==\n→drei\n'


def test_writing_ends_when_every_text_has_stopped(capsys):
  out, session = write(capsys, 'a.bc', 'def.', length=10_000, stop='.')
  assert out == '==> sample 1 of 2 <==\na\n==> sample 2 of 2 <==\ndef\n'
  assert sum(session.calls) == terminal.SHOW_EVERY


def test_a_line_end_may_stop(capsys):
  assert write(capsys, 'one\ntwo', stop='\n')[0] == 'one\n'


def test_the_first_text_is_shown_as_it_is_written(monkeypatch):
  shown = []
  monkeypatch.setattr(terminal, 'show', shown.append)
  terminal.write_samples(Script('abcdefgh'), BYTES, SampleConfig(length=128), Prompt('--prompt', b'So: '))
  assert shown == ['So: ', 'abcdefgh' * 8, 'abcdefgh' * 8, '\n']


def interact(capsys, session, lines, prompt=b'', tokenizer=BYTES, **chosen):
  terminal.interact(session, tokenizer, SampleConfig(interactive=True, **chosen), Prompt('--prompt', prompt), lines)
  return capsys.readouterr()


class Remember(Script):
  """A script that keeps what the model has seen before each line is answered."""

  def read(self, prompts, state=None):
    state = super().read(prompts, state)
    self.history = state[0]
    return state


def test_lines_are_answered_with_the_state_carried_on(capsys):
  session = Remember('abcdefgh')
  assert interact(capsys, session, [b'one', b'two', b'x'], length=4).out == 'abcd\nefgh\nabcd\n'
  assert session.history == b'oneabcdtwoefghx'


def test_an_empty_line_lets_the_model_go_on_and_an_empty_start_reads_a_newline(capsys):
  session = Remember('abcdefgh')
  assert interact(capsys, session, [b'', b'', b'x'], length=3).out == 'abc\ndef\ngha\n'
  assert session.history == b'\nabcdefx'


def test_the_prompt_comes_before_the_first_line(capsys):
  session = Remember('abcd')
  assert interact(capsys, session, [b'x'], prompt=b'So: ', length=4).out == 'So: \nabcd\n'
  assert session.history == b'So: x'


def test_the_model_has_read_no_further_than_the_stop_string(capsys):
  session = Remember('ab; cdef')
  assert interact(capsys, session, [b'x', b'y'], length=50, stop='; ').out == 'ab\ncdefab\n'
  assert session.history == b'xab; y'


def test_a_line_that_cannot_be_read_is_told_and_passed_over(capsys):
  done = interact(capsys, Script('\1\2\3'), [b'\xff', b'b'], tokenizer=CharTokenizer('\nab'), length=3)
  assert 'this line: byte 0xff at offset 0' in done.err
  assert done.out == '\nab\n'


def test_ctrl_c_ends_the_answer_only(capsys):
  class Interrupted(Script):
    def write(self, length, state):
      if len(self.calls) == 1:
        os.kill(os.getpid(), signal.SIGINT)
      return super().write(length, state)

  session = Interrupted('abcdefgh')
  before = signal.getsignal(signal.SIGINT)
  out = interact(capsys, session, [b'x', b'y'], length=192).out
  assert out == 'abcdefgh' * 16 + '\n' + 'abcdefgh' * 24 + '\n'
  assert signal.getsignal(signal.SIGINT) is before


def test_lines_come_from_a_pipe_whatever_their_bytes_are(monkeypatch):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'one\n\n\xff\xc3\xa8'), 'utf-8'))
  assert list(terminal.typed_lines()) == [b'one', b'', b'\xff\xc3\xa8']
