"""An export for LiteRT: its interpreter gives the log-probabilities of the model."""
import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from charlm.serving import litert, portable
from data_pipeline.tokenizers.registry import train_tokenizer
from flags.errors import RunError, UserError
from flags.serving import ExportConfig
from slow_model import random_model
from structures import STRUCTURES

pytest.importorskip('ai_edge_litert', reason="pip install 'charlm[litert]'")

from ai_edge_litert.interpreter import Interpreter


def export(model, folder):
  config = ExportConfig(format='litert', export_dir=str(folder))
  return litert.export(model, train_tokenizer('byte', []), config, facts={'step': 7})


def runner(folder):
  return Interpreter(str(folder / 'model.tflite')).get_signature_runner('step')


def assert_same(model, folder):
  """Reads tokens in two rows that begin with the state of charlm.json."""
  tokens, step = np.random.default_rng(1).integers(0, 256, [2, 30]).astype(np.int32), runner(folder)
  outputs, _ = portable.in_float32(model)(tokens, model.initial_state(2))
  facts, found = json.loads((folder / 'charlm.json').read_text()), []
  state = np.array([facts['initial_state']] * 2, np.float32)
  assert state.shape == (2, facts['state_size'])
  for column in tokens.T:
    answer = step(token=column, state=state)
    state, found = answer['state'], [*found, answer['log_probs']]
  np.testing.assert_allclose(np.stack(found, 1), tf.nn.log_softmax(outputs.logits), rtol=1e-4, atol=1e-4)
  return facts


@pytest.mark.parametrize('options', STRUCTURES, ids=str)
def test_the_interpreter_gives_the_log_probs_of_the_model(tmp_path, options):
  model = random_model(256, **options)
  assert_same(model, export(model, tmp_path / 'to'))


def test_the_facts_say_how_to_begin(tmp_path):
  model = random_model(256)
  facts = assert_same(model, export(model, tmp_path / 'to'))
  assert (facts['tokenizer'], facts['vocab_size'], facts['empty_prompt'], facts['step']) == ('byte', 256, [10], 7)
  assert json.loads((tmp_path / 'to' / 'vocab.json').read_text()) == [[b] for b in range(256)]


@pytest.mark.slow
def test_a_table_is_taken_where_it_makes_the_file_smaller(tmp_path, monkeypatch):
  sizes = {}
  for options in dict(embedding_size=64, input_units=64), dict(embedding_size=3):
    model = random_model(256, **options)
    chosen, found = litert._table_is_smaller(model), {}
    for table in (True, False):
      monkeypatch.setattr(litert, '_table_is_smaller', lambda model, table=table: table)
      folder = export(model, tmp_path / f'{len(sizes)}{table}')
      found[table] = (folder / 'model.tflite').stat().st_size
      assert_same(model, folder)
    monkeypatch.undo()
    assert min(found, key=found.get) == chosen
    sizes[chosen] = found
  assert set(sizes) == {True, False}


def test_an_export_that_differs_from_the_model_is_none(tmp_path, monkeypatch):
  other = random_model(256)
  other.embedding.assign(-other.embedding)
  convert = litert._converted
  monkeypatch.setattr(litert, '_converted', lambda model: convert(portable.in_float32(other)))
  with pytest.raises(RunError, match='differs from the model in memory'):
    export(random_model(256), tmp_path / 'to')
  assert not list(tmp_path.iterdir())


def test_a_model_too_large_for_the_format_is_refused_in_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(litert, 'MOST_BYTES', 1000)
  with pytest.raises(RunError, match=r'take [\d,]+ bytes: expected at most 1,000'):
    export(random_model(256), tmp_path / 'to')
  assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'ai_edge_litert.interpreter', None)
  with pytest.raises(UserError, match=r'pip install .charlm\[litert\]'):
    export(random_model(256), tmp_path / 'to')
  assert not list(tmp_path.iterdir())
