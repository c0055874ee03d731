"""What all commands share: help, exit statuses, and failures as one line."""
import dataclasses

import pytest
import tensorflow as tf

from charlm.commands import console, evaluate, export, sample, train
from flags import parse
from flags.data import DataConfig
from flags.errors import RunError, UserError
from flags.evaluation import EvaluateConfig
from flags.generation import SampleConfig
from flags.network import ModelConfig
from flags.run import RunConfig
from flags.serving import ExportConfig
from flags.training import TrainConfig

GROUPS = (RunConfig, DataConfig, ModelConfig, TrainConfig)
COMMANDS = [(train, GROUPS), (evaluate, (EvaluateConfig,)), (sample, (SampleConfig,)), (export, (ExportConfig,))]


def printed(module, flag, capsys):
  module.run([f'charlm-{module.__name__.rpartition(".")[2]}', flag])
  return capsys.readouterr().out


@pytest.mark.parametrize('module,groups', COMMANDS)
def test_help_is_short(module, groups, capsys):
  """At most a screen of 40 lines of 100 columns; it leads to the rest."""
  text = printed(module, '--help', capsys)
  lines = text.splitlines()
  assert len(lines) <= 40 and max(map(len, lines)) <= 100
  fields = [f for group in groups for f in dataclasses.fields(group)]
  for f in fields:
    assert (f'  --{f.name}' in text) == ('short' in f.metadata), f.name
    assert f.metadata.get('short', '') in text
  assert lines[-1].startswith(f'--helpfull teaches all {len(fields)} flags')


@pytest.mark.parametrize('module,groups', COMMANDS)
def test_helpfull_teaches_every_flag(module, groups, capsys):
  text = ' '.join(printed(module, '--helpfull', capsys).split())
  for group in groups:
    for f in dataclasses.fields(group):
      assert f'--{f.name}' in text and f.metadata['help'] in text
      for other in f.metadata.get('only_with', {}):
        assert f'only with --{other}' in text
  assert 'preset' not in [f.name for g in groups for f in dataclasses.fields(g)] or (
      f'(one of {", ".join(parse.preset_names())})' in text)


@pytest.mark.parametrize('error,status', [(UserError('--a=b: expected c'), 2), (RunError('no room'), 1),
                                          (KeyboardInterrupt(), 130)])
def test_exit_status(error, status, capsys):
  def main(given):
    raise error

  with pytest.raises(SystemExit) as exit_:
    console.command(main, *GROUPS)(['charlm-train'])
  assert exit_.value.code == status
  if str(error):
    assert capsys.readouterr().err == f'charlm-train: {error}\n'


@pytest.mark.parametrize('error,words', [
  (tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating\nmore'), 'needs more memory than there is (Reso'),
  (MemoryError(), 'needs more memory'), (tf.errors.InternalError(None, None, 'a b\nc'), 'failed (InternalError: a b)')])
def test_what_tensorflow_fails_of_is_one_line(error, words, capsys):
  def main(given):
    raise error

  with pytest.raises(SystemExit) as exit_:
    console.command(main, *GROUPS)(['charlm-train'])
  line, = capsys.readouterr().err.splitlines()
  assert exit_.value.code == 1 and words in line


def test_a_fault_of_charlm_is_not_hidden():
  def main(given):
    raise KeyError('a ROOM')

  with pytest.raises(KeyError):
    console.command(main, *GROUPS)(['charlm-train'])
