"""Every number has limits that the program can bear, and what is beyond them is told before any work."""
import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from all_flags import COMMANDS, FIELDS, made
from charlm.generation import categorical, session
from charlm.network.model import LanguageModel
from charlm.serving.signatures import ServedModel
from charlm.training import checks
from data_pipeline.tokenizers.byte import ByteTokenizer
from flags.config import Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.help import full_help
from flags.network import ModelConfig
from flags.schema import expected
from flags.serving import ExportConfig

INTEGERS = [(group, f) for group, f in FIELDS if f.type is int]
NUMBERS = [(group, f) for group, f in FIELDS if f.type is float]
named = {'ids': lambda value: getattr(value, 'name', getattr(value, '__name__', str(value)))}


def refused(group, f, value):
  """The message, or '' where the value is accepted."""
  try:
    made(group, **{f.name: value})
  except UserError as error:
    assert str(error).startswith(f'--{f.name}='), error
    assert '\n' not in str(error)
    return str(error)
  return ''


@pytest.mark.parametrize('group, f', INTEGERS, **named)
def test_integers_beyond_their_limits_are_refused(group, f):
  least, most = f.metadata['minimum'], f.metadata['maximum']
  assert most <= 2**31 - 1 or f.name in ('version', 'top_k')  # a name, and a bound that the vocabulary replaces
  for value in (2**31, 2**32 + 1, 2**63, 10**20, 10**400, -1, -10**20):
    assert least <= value <= most or f'at most {most:,}' in refused(group, f, value)


@pytest.mark.parametrize('group, f', NUMBERS, **named)
def test_numbers_beyond_their_limits_are_refused(group, f):
  for value in (math.nan, math.inf, -math.inf, float('1e400'), 1e300, -1e300, 10**400):
    assert refused(group, f, value), value
  float32 = np.float32(f.metadata.get('maximum', f.metadata.get('below')))
  assert np.isfinite(float32 * float32)


@pytest.mark.parametrize('group, f', INTEGERS + NUMBERS, **named)
def test_limits_are_in_the_help(group, f):
  text = ' '.join(full_help('charlm-x', 'x.', (group,)).partition(f'  --{f.name}=')[2].split())
  assert text.partition('(at least ')[2].startswith(expected(f.metadata).removeprefix('at least ')) or (
      text.partition('(more than ')[2].startswith(expected(f.metadata).removeprefix('more than ')))


@pytest.mark.parametrize('lengths', ['5000000000', '10,-3', '9' * 5000, '1e3', '5,,6'])
def test_lengths_of_a_curriculum_have_limits(lengths):
  with pytest.raises(UserError, match='--chunk_curriculum='):
    DataConfig(chunk_curriculum=lengths)


@pytest.mark.parametrize('command, flag', [
    ('charlm-sample', '--top_k=99999999999999999999'), ('charlm-sample', '--num_samples=50000000'),
    ('charlm-sample', '--length=5000000000'), ('charlm-sample', '--seed=18446744073709551615'),
    ('charlm-train', '--vocab_size=5000000000'), ('charlm-train', '--units=4294967297'),
    ('charlm-train', '--steps=99999999999999999999'), ('charlm-train', '--batch_size=5000000000'),
    ('charlm-train', '--learning_rate=nan'), ('charlm-train', '--dropout=1e400'),
    ('charlm-evaluate', '--chunk_length=5000000000'), ('charlm-export', '--version=99999999999999999999')])
def test_a_command_refuses_them_in_one_line(command, flag, capsys, tmp_path):
  with pytest.raises(SystemExit) as ended:
    COMMANDS[command].run([command, f'--workdir={tmp_path}/w', flag])
  line, = capsys.readouterr().err.splitlines()
  assert ended.value.code == 2
  assert flag.partition('=')[0] in line and 'expected' in line
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('top_k', [4, 2**31, 2**32 + 1, 2**63 - 1])
def test_a_top_k_beyond_the_vocabulary_is_all(top_k):
  logits = tf.constant([[0.0, 1.0, 2.0, 3.0]])
  p = categorical.token_probabilities(1, 4, temperature=1.0, top_k=top_k, top_p=1.0)(logits)
  np.testing.assert_allclose(p, tf.nn.softmax(logits))


@pytest.mark.slow
def test_the_program_samples_among_all_with_a_huge_top_k(finished, capsys):
  texts = []
  for flag in ('--top_k=0', '--top_k=4294967297'):
    COMMANDS['charlm-sample'].run(['charlm-sample', f'--workdir={finished}', '--length=40', '--temperature=2', flag])
    texts.append(capsys.readouterr().out)
  assert texts[0] == texts[1]


@pytest.mark.parametrize('top_k', [2**31, 2**63 - 1])
@pytest.mark.slow
def test_an_export_samples_among_all_with_a_huge_top_k(top_k):
  tokenizer = ByteTokenizer()
  model = LanguageModel(ModelConfig(units=8, embedding_size=8, input_units=8), tokenizer.vocab_size)
  texts = [ServedModel(model, tokenizer, ExportConfig(length=9, temperature=2.0, top_k=k)).functions['serving_default'](
    tf.constant(['a']))['text'].numpy().tolist() for k in (0, top_k)]
  assert texts[0] == texts[1]


def test_more_texts_than_the_memory_holds_are_refused(monkeypatch):
  model = LanguageModel(ModelConfig(units=8, embedding_size=8, input_units=8), 256)
  session.check_memory(model, 100, 500)
  monkeypatch.setattr(session, 'memory_bytes', lambda: 10**5)
  with pytest.raises(UserError, match='--num_samples=100: expected fewer texts'):
    session.check_memory(model, 100, 500)


def test_more_rows_than_the_memory_holds_are_refused(monkeypatch):
  config = Config(data=DataConfig(batch_size=10**5, chunk_length=10**4))
  monkeypatch.setattr(checks, 'memory_bytes', lambda: 2**34)
  with pytest.raises(UserError, match='--batch_size=100000: expected fewer rows'):
    checks.check_memory(config)
  checks.check_memory(dataclasses.replace(config, data=DataConfig()))
