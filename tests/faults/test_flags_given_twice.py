"""A flag is given once on a command line; beside a preset or a file it wins, wherever that stands."""
import pytest

from flags import parse
from flags.data import DataConfig
from flags.errors import UserError
from flags.evaluation import EvaluateConfig
from flags.generation import SampleConfig
from flags.network import ModelConfig
from flags.run import RunConfig
from flags.score import ScoreConfig
from flags.serving import ExportConfig
from flags.training import TrainConfig

COMMANDS = {'charlm-train': (RunConfig, DataConfig, ModelConfig, TrainConfig), 'charlm-evaluate': (EvaluateConfig,),
            'charlm-sample': (SampleConfig,), 'charlm-score': (ScoreConfig,), 'charlm-export': (ExportConfig,)}


def parsed(*arguments, command='charlm-train'):
  return parse.parse([command, *arguments], COMMANDS[command])


@pytest.mark.parametrize('arguments, words', [
  (['--corpus=a', '--corpus=b'], '--corpus=a --corpus=b: given twice; expected one value'),
  (['--units=1', '--units', '2'], '--units=1 --units=2: given twice'),
  (['-units=1', '--units=1'], '--units=1 --units=1: given twice'),
  (['--dropout=0.5', '--workdir=w', '-dropout', '0.25'], '--dropout=0.5 --dropout=0.25: given twice'),
  (['--profile', '--noprofile'], '--profile: given twice'),
  (['--profile', '--profile=true'], '--profile: given twice'),
  (['--preset=demo', '--preset=default'], '--preset=demo --preset=default: given twice'),
  (['--tokenizer=byte'] * 3, '--tokenizer=byte --tokenizer=byte --tokenizer=byte: given twice'),
  (['--corpus=', '--corpus=b'], '--corpus= --corpus=b: given twice'),
  (['--workdir=--units', '--workdir=w'], '--workdir=--units --workdir=w: given twice'),
])
def test_a_flag_that_is_given_twice_is_refused(arguments, words):
  with pytest.raises(UserError) as error:
    parsed(*arguments)
  assert str(error.value).startswith(words) and '\n' not in str(error.value)


@pytest.mark.parametrize('command', COMMANDS)
def test_in_every_command(command):
  with pytest.raises(UserError, match='--workdir=a --workdir=b: given twice'):
    parsed('--workdir=a', '--workdir=b', command=command)


def test_some_flags_may_be_given_several_times(tmp_path):
  given = ['--stop=a', '--ban=x', '--stop', 'b', '--ban=--stop=y']
  assert parsed(*given, command='charlm-sample') == {'stop': ('a', 'b'), 'ban': ('x', '--stop=y')}
  (tmp_path / 'my.flags').write_text('--stop=c\n--stop=d\n')
  file = f'--flagfile={tmp_path}/my.flags'
  assert parsed(file, command='charlm-sample') == {'stop': ('c', 'd')}
  assert parsed('--stop=a', file, command='charlm-sample') == {'stop': ('a',)}  # as of any flag beside a file


def test_a_value_may_look_like_a_flag():
  given = parsed('--prompt', '--length=3', '--length=4', command='charlm-sample')
  assert given == {'prompt': '--length=3', 'length': 4}


@pytest.mark.parametrize('spelling', [['--flagfile={}'], ['-flagfile={}'], ['--flagfile', '{}']])
def test_a_flag_beside_a_file_wins_wherever_the_file_stands(tmp_path, spelling):
  (tmp_path / 'inner.flags').write_text('--layers=7\n--seed=5\n--noprofile\n')
  (tmp_path / 'my.flags').write_text(f'--flagfile={tmp_path}/inner.flags\n--units=5\n--layers=3\n')
  file = [word.format(tmp_path / 'my.flags') for word in spelling]
  wanted = {'units': 9, 'layers': 3, 'seed': 5, 'profile': True}
  for arguments in (['--units=9', '--profile', *file], [*file, '--units=9', '--profile'],
                    ['--units=9', *file, '--profile=true'], [*file, *file, '--units=9', '--profile']):
    assert parsed(*arguments) == wanted


def test_a_flag_beside_a_preset_in_a_file_wins(tmp_path):
  (tmp_path / 'my.flags').write_text('--preset=demo\n--layers=3\n')
  given = parsed('--max_minutes=7', f'--flagfile={tmp_path}/my.flags')
  assert (given['max_minutes'], given['layers'], given['preset']) == (7, 3, 'demo')
