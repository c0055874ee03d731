"""What is printed, from stubs that write known text."""
import pytest

from charlm.generation import terminal
from charlm.generation.prompts import Prompt
from flags.generation import SampleConfig
from scripts import BYTES, Script


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
  assert 2 * terminal.SHOW_EVERY - session.dropped == len('a.def.')


def test_a_line_end_may_stop(capsys):
  assert write(capsys, 'one\ntwo', stop='\n')[0] == 'one\n'


def test_the_first_text_is_shown_as_it_is_written(monkeypatch):
  shown = []
  monkeypatch.setattr(terminal, 'show', shown.append)
  terminal.write_samples(Script('abcdefgh'), BYTES, SampleConfig(length=128), Prompt('--prompt', b'So: '))
  assert shown == ['So: ', 'abcdefgh' * 8, 'abcdefgh' * 8, '\n']
