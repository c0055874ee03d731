"""A trained model is opened where all of it belongs together."""
import shutil

import pytest

from charlm.commands import evaluate
from flags.config import Config
from flags.network import ModelConfig


@pytest.mark.parametrize('prepare,words', [
    (lambda folder: None, ['config.json']),
    (lambda folder: (folder / 'config.json').write_text(Config(model=ModelConfig(units=8)).to_json().replace(
      '"units": 8', '"units": 8.5')), ['config.json', '--units=8.5', 'an integer']),
    (lambda folder: (folder / 'config.json').write_text(Config.from_json(
      (folder / 'config.json').read_text()).replace({'units': 13}).to_json()),
     ['config.json', 'first model/', 'of shape', 'expected float32 of shape']),
    (lambda folder: (folder / 'config.json').write_text((folder / 'config.json').read_text().replace(
      '"units": 12', '"units": 60000')), ['config.json', 'model of ', 'belong together']),
    (lambda folder: shutil.rmtree(folder / 'checkpoints'), ['no checkpoint']),
    (lambda folder: (folder / 'config.json').write_text('{'), ['config.json', 'not a charlm configuration']),
    (lambda folder: (folder / 'tokenizer.json').unlink(), ['tokenizer']),
    (lambda folder: other_tokenizer(folder), ['tokenizer', 'not the one']),
])
def test_a_workdir_that_will_not_do(finished, tmp_path, capsys, prepare, words):
  workdir = tmp_path / 'run'
  if 'config.json' not in words or len(words) > 1:
    shutil.copytree(finished, workdir)
  prepare(workdir)
  with pytest.raises(SystemExit) as exit_:
    evaluate.run(['charlm-evaluate', f'--workdir={workdir}'])
  assert exit_.value.code == 2
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and all(word in errors[0] for word in words), errors


def other_tokenizer(folder):
  from data_pipeline.tokenizers.char import CharTokenizer
  CharTokenizer('abc').save(folder)
