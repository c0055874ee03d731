"""--help fits on a screen, --helpfull teaches every flag."""
import dataclasses

import pytest

from charlm.commands import evaluate, export, prepare, sample, score, train
from flags.data import DataConfig
from flags.evaluation import EvaluateConfig
from flags.generation import SampleConfig
from flags.help import COLUMNS
from flags.network import ModelConfig
from flags.prepare import PrepareConfig
from flags.run import RunConfig
from flags.score import ScoreConfig
from flags.serving import ExportConfig
from flags.training import TrainConfig

COMMANDS = [('charlm-train', train, (RunConfig, DataConfig, ModelConfig, TrainConfig)),
            ('charlm-evaluate', evaluate, (EvaluateConfig,)), ('charlm-sample', sample, (SampleConfig,)),
            ('charlm-score', score, (ScoreConfig,)), ('charlm-export', export, (ExportConfig,)),
            ('charlm-prepare', prepare, (PrepareConfig,))]
each_command = pytest.mark.parametrize('name, module, groups', COMMANDS, ids=[name for name, *_ in COMMANDS])


def lines_of(module, capsys, *arguments):
  module.run([*arguments])
  return capsys.readouterr().out.splitlines()


@each_command
def test_help_has_what_most_people_set_and_fits_on_a_screen(name, module, groups, capsys):
  lines = lines_of(module, capsys, name, '--help')
  assert len(lines) <= 40 and max(map(len, lines)) <= COLUMNS == 100
  assert lines[0].startswith(f'{name}: ') and any(line.startswith(f'{name} --') for line in lines)
  fields = [f for group in groups for f in dataclasses.fields(group)]
  assert lines[-1].endswith(f'--helpfull teaches all {len(fields)} flags.')
  for f in fields:
    default = f'={f.default}' if f.default not in ('', ()) else ''
    shown = [line for line in lines if line.startswith(f'  --{f.name}{default} ')]
    assert len(shown) == ('short' in f.metadata)
    assert all(line.endswith(f'  {f.metadata["short"]}') for line in shown)
  assert any(f.name in ('workdir', 'tokens_dir') and 'short' in f.metadata for f in fields)


@each_command
def test_helpfull_teaches_every_flag(name, module, groups, capsys):
  lines = lines_of(module, capsys, name, '--helpfull')
  text = ' '.join(' '.join(lines).split())
  for group in groups:
    for f in dataclasses.fields(group):
      assert f'  --{f.name}' in [line.partition('=')[0] for line in lines]
      assert ' '.join(f.metadata['help'].split()) in text
  assert max(map(len, lines)) <= COLUMNS
