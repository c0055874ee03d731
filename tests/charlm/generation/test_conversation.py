"""Lines that are answered, and the commands between them, from stubs that write known text."""
import os
import signal

import pytest

from charlm.generation import conversation
from charlm.generation.prompts import Prompt
from data_pipeline.tokenizers.char import CharTokenizer
from flags.generation import SampleConfig
from scripts import BYTES, Script


def interact(capsys, session, lines, prompt=b'', tokenizer=BYTES, **chosen):
  writer = conversation.SessionWriter(session, tokenizer)
  conversation.interact(writer, SampleConfig(interactive=True, **chosen), Prompt('--prompt', prompt), lines)
  return capsys.readouterr()


def test_lines_are_answered_with_the_state_carried_on(capsys):
  session = Script('abcdefgh')
  assert interact(capsys, session, [b'one', b'two', b'x'], length=4).out == 'abcd\nefgh\nabcd\n'
  assert session.history == b'oneabcdtwoefghx'


def test_an_empty_line_lets_the_model_go_on_and_an_empty_start_reads_a_newline(capsys):
  session = Script('abcdefgh')
  assert interact(capsys, session, [b'', b'', b'x'], length=3).out == 'abc\ndef\ngha\n'
  assert session.history == b'\nabcdefx'


def test_the_prompt_comes_before_the_first_line(capsys):
  session = Script('abcd')
  assert interact(capsys, session, [b'x'], prompt=b'So: ', length=4).out == 'So: \nabcd\n'
  assert session.history == b'So: x'


def test_the_model_has_read_no_further_than_the_stop_string(capsys):
  session = Script('ab; cdef')
  assert interact(capsys, session, [b'x', b'y'], length=50, stop='; ').out == 'ab\ncdefab\n'
  assert session.history == b'xab; y'


def test_what_a_stop_text_discards_does_not_count(capsys):
  session = Script('ab; cdef')
  interact(capsys, session, [b'x'], length=50, stop='; ')
  assert session.calls == [50, 4] and session.dropped == 50


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


def talk(capsys, *lines, text='abcdefgh', **chosen):
  """-> standard output, standard error, the session."""
  session = Script(text)
  done = interact(capsys, session, [line.encode() for line in lines], **chosen)
  return done.out, done.err, session


def test_settings_hold_from_the_next_line_on(capsys):
  out, err, session = talk(capsys, 'x', ':length 2', 'y', ':length 3', 'z', length=4)
  assert (out, err) == ('abcd\nef\ngha\n', '')
  assert session.calls == [4, 2, 3] and not session.changes


def test_settings_reach_the_session(capsys):
  talked = talk(capsys, ':temperature 0.5', ':top_k 3', ':min_p 0.1', ':min_p 0.1', ':top_p 0.9', ':seed 7')[2].changes
  assert talked[:-1] == [{'temperature': 0.5}, {'top_k': 3, 'top_p': 1.0, 'min_p': 0.0},
                         {'top_k': 3, 'top_p': 1.0, 'min_p': 0.1}, {'top_k': 3, 'top_p': 0.9, 'min_p': 0.1}]
  assert talked[-1]['seeds'].tolist() == [7]


def test_a_seed_begins_its_numbers_anew(capsys):
  assert talk(capsys, 'x', 'y', ':seed 3', 'z', length=3)[0] == 'abc\ndef\nabc\n'


def test_stop_texts_are_added_and_taken_away(capsys):
  out, err, _ = talk(capsys, ':stop c', 'x', r':stop \n', 'y', ':stop', 'z', text='abcd\nefg', length=12)
  assert (out, err) == ('ab\nd\nefgabcd\nefga\n', '')


def test_undo_goes_back_to_before_a_prompt_and_its_answer(capsys):
  out, err, session = talk(capsys, 'one', 'two', ':undo', 'three', ':undo', ':undo', ':undo', 'four', length=2)
  assert out == 'ab\ncd\ncd\nab\n' and session.history == b'four'
  assert err == ':undo: there is nothing to go back from\n'


def test_reset_goes_back_to_the_prompt_and_can_be_undone(capsys):
  session = Script('abcdefgh')
  out = interact(capsys, session, [b'x', b':reset', b'y', b':undo', b':undo', b'z'], prompt=b'So: ', length=2).out
  assert out == 'So: \nab\nab\ncd\n' and session.history == b'So: xabz'


def test_a_line_with_two_colons_is_a_text_with_one(capsys):
  assert talk(capsys, '::quit', '::', ':::', length=1)[2].history == b':quita:b::'


def test_quit_ends(capsys):
  assert talk(capsys, 'x', ':quit', 'y', length=2)[0] == 'ab\n'


@pytest.mark.parametrize('line, words', [
    (':temprature 1', ':temprature: no such command. Did you mean :temperature?'),
    (':', ':: no such command. :help lists them'), (':)', ':): no such command'), (': quit', ':: no such command'),
    (':workdir x', ':workdir: no such command'), (':quit now', ':quit now: expected :quit alone'),
    (':a\x1b[2J\x07', r':a\x1b[2J\x07: no such command'), (':length\t9x', ':length 9x: expected an integer'),
    (':temperature', ':temperature: expected a number'), (':temperature much', ':temperature much: expected a number'),
    (':temperature -1', ':temperature -1.0: expected at least 0.0'), (':temperature nan', ':temperature nan: expected'),
    (':top_k 1.5', ':top_k 1.5: expected an integer'), (':top_p 0', ':top_p 0.0: expected more than 0.0'),
    (':min_p 2', ':min_p 2.0: expected at least 0.0 and at most 1.0'), (':length 0', ':length 0: expected at least 1'),
    (':seed ' + '9' * 5000, ':seed 999'), (':stop abc', ':stop b :stop abc: the first is within the second')])
def test_a_wrong_command_is_told_in_one_line_and_changes_nothing(capsys, line, words):
  out, err, session = talk(capsys, line, 'x', stop='b', length=5)
  assert err.startswith(words) and err.count('\n') == 1
  assert out == 'a\n' and not session.changes


def test_help_has_the_settings_as_they_are(capsys):
  out, err, _ = talk(capsys, ':top_k 5', r':stop \n', ':help')
  assert out == '' and max(map(len, err.splitlines())) < 100
  lines = err.splitlines()
  assert ' '.join(line.split()[0] for line in lines) == (
      ':temperature :top_k :top_p :min_p :length :seed :stop now :reset :undo :help :quit ::TEXT')
  assert lines[1].startswith(':top_k 5 ') and lines[7].strip() == r'now \n'
