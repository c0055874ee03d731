"""charlm-sample through its entry point, with an untrained model."""
import io
import signal
import subprocess
import sys
import time

import pytest

import runs
from charlm.commands import sample
from charlm.network.model import LanguageModel
from charlm.workdir import checkpoint, layout, variables
from data_pipeline.tokenizers.char import CharTokenizer
from flags.config import Config
from flags.network import ModelConfig
from terminals import Terminal


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A workdir with an untrained model."""
  folder = tmp_path_factory.mktemp('workdir')
  config = Config(model=ModelConfig(embedding_size=8, input_units=16, units=16))
  layout.save_config(folder, config, CharTokenizer('\n abcdefg'))
  arrays = variables.collect('model', LanguageModel(config.model, 10).variables)
  tokenizer = CharTokenizer('\n abcdefg').fingerprint
  state = {'step': 5, 'tokenizer': tokenizer, 'text': '', 'best_nats': None, 'best_step': 0}
  checkpoint.save(folder, 5, arrays, state)
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


def test_command_writes_nothing_that_is_banned(command):
  free = command('--length=300', '--temperature=1', '--seed=2').out
  assert {'\ufffd', 'a'} < set(free) and 'bc' in free  # the model is untrained
  some = command('--length=300', '--temperature=1', '--seed=2', '--ban=a', '--ban=bc', '--ban_unknown').out
  assert not set(some) & {'\ufffd', 'a'} and 'bc' not in some and {'b', 'c'} < set(some)
  greedy = command('--length=30', '--temperature=0', '--repetition_penalty=1e6', '--repetition_window=4').out
  assert all(len(set(greedy[i:i + 5])) == 5 for i in range(2, 26))


def test_command_ends_before_the_first_of_several_texts(command):
  free = command('--prompt=a', '--length=100').out
  one, two = free[20:22], free[9:11]
  ends = min(free.index(stop, 1) for stop in (one, two))
  assert command('--prompt=a', '--length=100', f'--stop={one}', f'--stop={two}').out.rstrip('\n') == free[:ends]


def test_commands_between_lines_act_in_a_pipe(command, monkeypatch):
  def answers(lines):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(lines), 'utf-8'))
    return command('--interactive', '--length=40', '--temperature=0.9')

  once = answers(b'a').out
  done = answers(b'a\n:undo\na\n:temprature 2\n:undo\n:seed 3\n:top_k 1\n:min_p 0.5\na\n:quit\na')
  assert done.out.startswith(once + once) and done.err.startswith(':temprature: no such command')
  greedy = done.out.removeprefix(once + once)
  assert len(greedy) == 41 and greedy != once
  assert answers(b':temperature 0\na').out == greedy


@pytest.mark.parametrize('flags, named', [
    (['--min_p=nan'], '--min_p=nan'), (['--min_p=1.1'], '--min_p=1.1'),
    (['--repetition_penalty=0.9'], '--repetition_penalty=0.9'),
    (['--repetition_penalty=inf'], '--repetition_penalty=inf'),
    (['--repetition_window=5'], '--repetition_window=5 has no effect'),
    (['--repetition_penalty=2', '--repetition_window=4097'], '--repetition_window=4097'),
    (['--stop=a', '--stop=ab'], '--stop=a --stop=ab'), (['--ban=a', '--ban='], '--ban='),
    (['--workdir=/none'], '--workdir=/none'), ([], '--workdir'), (['--temperature=-1'], '--temperature=-1.0'),
    (['--prompt_file=/none/x'], '--prompt_file=/none/x'), (['--prompt=x', '--prompt_file=y'], '--prompt')])
def test_command_tells_mistakes_in_one_line(command, flags, named):
  done = command(*flags, status=2)
  assert done.err.startswith(f'charlm-sample: {named}') and done.err.count('\n') == 1


def test_a_ban_of_everything_is_refused(command, trained):
  bans = [f'--ban={text}' for text in ('\\n', ' ', *'abcdef', 'g')]
  assert command(*bans, '--length=5').out.strip('\n') == '\ufffd' * 5
  done = command(f'--workdir={trained}', *bans, '--ban_unknown', status=2)
  assert done.err.endswith('--ban=g --ban_unknown: expected fewer bans: they leave this model nothing to write\n')
  assert done.err.count('\n') == 1 and done.out == ''


def test_mistakes_are_told_before_tensorflow_is_imported():
  code = "import sys, charlm.commands.sample; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, '-c', code], cwd=runs.ROOT).returncode == 0


@pytest.mark.slow
def test_a_session_at_a_terminal(trained, tmp_path):
  """Prompts, commands, editing, Ctrl-C in an answer and at the prompt, Ctrl-D; the model writes no > by itself."""
  flags = f'--workdir={trained}', '--interactive', '--length=20', '--ban=\\n', '--ban_unknown'
  terminal = Terminal([sys.executable, '-m', 'charlm.commands.sample', *flags], PYTHONPATH=str(runs.ROOT),
                      XDG_CACHE_HOME=str(tmp_path))

  def say(line):
    """Types a line -> the answer, once the next line can be typed."""
    terminal.type(f'{line}\n')
    terminal.until('\n')  # the line itself
    return terminal.until('> ').removesuffix('\n')

  terminal.until('> ')
  first, second = say('bad'), say('cab')
  assert len(first) == len(second) == 20 and first != second
  assert (say(':undo'), say('cab'), say(':undo'), say(':undo')) == ('', second, '', '')
  assert say('bax\bd') == first
  assert (say(':reset'), say(':seed 5')) == ('', '') and say('bad') != first
  assert (say(':reset'), say(':seed 0'), say('bad')) == ('', '', first)
  terminal.type(':length 1000000\nface\n')
  terminal.until('face\n')
  terminal.until('a')
  terminal.process.send_signal(signal.SIGINT)
  terminal.until('\n> ')
  time.sleep(1)  # the prompt is shown a moment before the line is waited for
  terminal.process.send_signal(signal.SIGINT)
  terminal.until('> ')
  assert say(':nothing') == ''
  terminal.type('\x04')
  status, err = terminal.end()
  lines = err.split('\n')
  assert (status, lines[:3]) == (0, [':help lists the commands, Ctrl-D ends.', '', 'Ctrl-D ends.'])
  assert lines[3].startswith(':nothing: no such command')
  assert (tmp_path / 'charlm' / 'history').read_text().splitlines()[:2] == ['bad', 'cab']
