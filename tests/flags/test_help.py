"""The texts of --help and --helpfull; tests/charlm/commands/test_help.py has those of each command."""
from flags.help import full_help, short_help
from flags.network import ModelConfig
from flags.run import PRESETS, RunConfig
from flags.training import TrainConfig


def test_helpfull_has_choices_limits_and_rules():
  text = ' '.join(full_help('charlm-train', 'trains.', (RunConfig, ModelConfig, TrainConfig)).split())
  assert f'(one of {", ".join(PRESETS)})' in text
  assert '(only with --cell=lstm)' in text
  assert '(at least 0.0 and at most 1.0; only with --schedule=cosine or linear)' in text
  assert '(at least 0.0 and at most 1,000,000.0; not with --clip_percentile)' in text


def test_examples_of_a_docstring_are_not_indented():
  lines = short_help('charlm-x', '''does x.

  charlm-x --workdir=w      x

  And nothing else.
  ''', (RunConfig,)).splitlines()
  assert lines[:5] == ['charlm-x: does x.', '', 'charlm-x --workdir=w      x', '', 'And nothing else.']
