"""charlm-sample --server: a served model writes what the model in its workdir writes."""
import io
import sys

import pytest

import stand_in
from charlm.client import terminal
from charlm.client.client import Place
from charlm.commands import sample
from charlm.generation import conversation
from charlm.generation.prompts import Prompt
from charlm.serving.signatures import ServedModel
from charlm.workdir import trained_model
from flags.errors import UserError
from flags.generation import SampleConfig
from flags.score import ScoreConfig
from flags.serving import ExportConfig

SERVER = '--server=http://h'
OPTIONS = '--prompt=It was', '--length=40', '--temperature=0.9', '--top_k=50', '--seed=3'


@pytest.fixture(scope='module', params=['rest', 'grpc'])
def address(request, finished):
  opened = trained_model.load_model(finished)
  served = ServedModel(opened.model, opened.tokenizer, ExportConfig(max_prompt_tokens=100, max_new_tokens=32))
  with getattr(stand_in, request.param)(served.functions) as one:
    yield one


@pytest.fixture
def command(capsys):
  """-> what charlm-sample prints."""
  def run(*flags):
    sample.run(['charlm-sample', *flags])
    return capsys.readouterr()

  return run


def test_a_server_writes_what_the_workdir_writes(command, address, finished):
  for flags in (OPTIONS, (*OPTIONS, '--num_samples=3')):
    found, wanted = (command(where, *flags) for where in (f'--server={address}', f'--workdir={finished}'))
    assert found.err == wanted.err == '' and found.out.replace('\ufffd', '') == wanted.out.replace('\ufffd', '')


@pytest.fixture
def typed(command, monkeypatch):
  """(lines, where the model is) -> what is printed when these lines are typed."""
  def run(lines, *where):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO('\n'.join(lines).encode() + b'\n'), 'utf-8'))
    return command(*where, '--interactive', '--length=20', '--temperature=0.9', '--seed=3')

  return run


def test_lines_are_answered_and_the_state_is_carried_on(typed, address, finished):
  for lines in (['It was', 'the', '', 'It was'], ['', 'a']):
    found, wanted = typed(lines, f'--server={address}'), typed(lines, f'--workdir={finished}')
    assert found.err == wanted.err == ''
    # A character that an answer leaves unfinished is left out, or U+FFFD.
    assert found.out.replace('\ufffd', '') == wanted.out.replace('\ufffd', '')


def test_commands_act_as_they_do_without_a_server(typed, address, finished):
  lines = ['It was', ':undo', ':length 10', ':seed 4', 'It was', ':reset', '::x', ':temperature 0', '', ':quit', 'no']
  found, wanted = typed(lines, f'--server={address}'), typed(lines, f'--workdir={finished}')
  assert found.err == wanted.err == ''
  assert found.out.replace('\ufffd', '') == wanted.out.replace('\ufffd', '')
  found = typed([':stop x', ':min_p 0.5', ':nothing', ':help'], f'--server={address}')
  told = found.err.splitlines()
  assert found.out == '' and told[:2] == [f':{name}: cannot be changed here; :help lists what can'
                                          for name in ('stop', 'min_p')]
  assert told[2].startswith(':nothing: no such command.')
  assert ' '.join(line.split()[0] for line in told[3:]) == (
    ':temperature :top_k :top_p :length :seed :reset :undo :help :quit ::TEXT')


def test_a_line_that_the_server_refuses_is_told_of(typed, address):
  found = typed(['a' * 101, 'the'], f'--server={address}')
  assert 'a row of 101 tokens: expected at most 100' in found.err
  assert found.out == typed(['the'], f'--server={address}').out


def test_ctrl_c_ends_an_answer(capsys):
  asked = []

  class Interrupted:
    """A client that is interrupted after its first block."""
    def read(self, prompt, place=None):
      asked.append((prompt, place))
      return Place([prompt], 0)

    def write(self, place, **_):
      yield 'one', place._replace(written=16)
      raise KeyboardInterrupt

    def close(self):
      asked.append('closed')

  conversation.interact(terminal.ServerWriter(Interrupted()), SampleConfig(server='http://h', interactive=True),
                        Prompt('--prompt', b''), [b'a', b'b'])
  assert capsys.readouterr().out == 'one\none\n'
  assert asked == [(b'a', None), 'closed', (b'b', Place([b'a'], 16)), 'closed']


@pytest.mark.parametrize('flags, told', [
  ([SERVER, '--stop=x'], '--stop='), ([SERVER, '--workdir=x'], '--workdir=x has no effect with --server=http://h'),
  ([SERVER, '--weights=last'], '--weights=last'), ([SERVER, '--recurrence=xla'], '--recurrence=xla'),
  ([SERVER, '--num_samples=2', '--interactive'], '--num_samples=2'),
  (['--server=host:8501'], '--server=host:8501: expected'), (['--workdir=x', '--model=x'], '--model=x'),
  (['--server=http://:port'], '--server=http://:port: expected the address'),
  (['--server=http://[::1'], '--server=http://[::1: expected the address'),
  (['--server=http://a..b'], '--server=http://a..b: expected the address')])
def test_what_a_server_does_not_know_is_refused_by_name(flags, told, capsys):
  with pytest.raises(SystemExit) as ended:
    sample.run(['charlm-sample', *flags])
  told_of = capsys.readouterr().err
  assert ended.value.code == 2 and told in told_of and told_of.count('\n') == 1


def test_a_name_that_is_no_text_is_refused():
  for group in SampleConfig, ScoreConfig:
    with pytest.raises(UserError, match=r'^--model=.*: expected text'):
      group(server='http://h', model='\udcff')


def test_a_server_that_is_not_there_is_one_line_and_nothing_is_printed(capsys):
  with pytest.raises(SystemExit) as ended:
    sample.run(['charlm-sample', '--server=http://127.0.0.1:1', '--prompt=It was'])
  found = capsys.readouterr()
  assert ended.value.code == 1 and found.out == '' and 'http://127.0.0.1:1: cannot be reached' in found.err
