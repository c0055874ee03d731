"""An export as safetensors: the weights by name, and the program in NumPy that runs them."""
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from charlm.network.backend.xla import XlaBackend
from charlm.network.dropout import Dropout
from charlm.serving import portable, tensors
from data_pipeline.tokenizers.registry import train_tokenizer
from flags.errors import RunError, UserError
from flags.serving import ExportConfig
from slow_model import random_model
from structures import STRUCTURES, TEXT

pytest.importorskip('safetensors', reason="pip install 'charlm[safetensors]'")

from charlm.serving import numpy_model


def export(model, folder, kind='byte'):
  tokenizer = train_tokenizer(kind, [TEXT.encode()], vocab_size=300)
  config = ExportConfig(format='safetensors', export_dir=str(folder))
  return tensors.export(model, tokenizer, config, facts={'config': {'model': dataclasses.asdict(model.config)}})


@pytest.mark.parametrize('options', STRUCTURES, ids=str)
def test_the_program_gives_the_logits_of_the_model(tmp_path, options):
  model = random_model(256, **options)
  written, tokens = numpy_model.Model(export(model, tmp_path / 'to')), np.random.default_rng(1).integers(0, 256, 30)
  wanted = portable.in_float32(model)(tokens[None].astype(np.int32), model.initial_state(1))[0].logits[0].numpy()
  state, found = written.initial, []
  for token in tokens:
    logits, state = written.step(token, state)
    found.append(logits)
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
  assert sum(w.size for w in written.weights.values()) == sum(v.shape.num_elements() for v in model.variables)


def test_weights_have_the_names_of_the_docs():
  names = {'embedding.weight': (9, 3), 'input_layers.0.weight': (4, 3), 'input_layers.0.norm.weight': (4,),
           'input_layers.0.norm.bias': (4,), 'output.weight': (9, 5), 'output.bias': (9,)}
  for i, size in (0, 4), (1, 5):
    layer = {'input.0.weight': (15, size), 'input.0.norm.weight': (15,), 'input.0.norm.bias': (15,),
             'recurrent.weight': (15, 5), 'recurrent.norm.weight': (15,), 'candidate_bias': (5,), 'initial_h': (5,)}
    names |= {f'layers.{i}.{name}': shape for name, shape in layer.items()}
  assert {name: w.shape for name, w in tensors.named_weights(random_model(9, units=5)).items()} == names


@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_without_layer_norm_the_weights_are_those_of_pytorch(cell):
  """torch.nn.GRU and LSTM by the equations of their documentation, with the names that it gives to their weights."""
  model, h, c = random_model(9, layers=1, units=5, cell=cell, layer_norm=False), np.ones(5), -np.ones(5)
  w, x = tensors.named_weights(model), np.arange(4) / 4
  weight_ih, weight_hh, bias_ih = (w[f'layers.0.{name}'] for name in ('input.0.weight', 'recurrent.weight',
                                                                      'input.0.bias'))
  bias_hh = np.concatenate([np.zeros(10), w['layers.0.candidate_bias']]) if cell == 'gru' else np.zeros(20)
  sign = np.repeat([1, -1, 1], 5) if cell == 'gru' else np.ones(20)
  a, b = (sign * (weight_ih @ x + bias_ih), sign * (weight_hh @ h + bias_hh))
  if cell == 'gru':
    r, z = (numpy_model.sigmoid(a[k:k + 5] + b[k:k + 5]) for k in (0, 5))
    wanted = [(1 - z) * np.tanh(a[10:] + r * b[10:]) + z * h]
  else:
    i, f, g, o = np.split(a + b, 4)
    cell_state = numpy_model.sigmoid(f) * c + numpy_model.sigmoid(i) * np.tanh(g)
    wanted = [numpy_model.sigmoid(o) * np.tanh(cell_state), cell_state]
  project, layer = model.recurrent_layers[0].projections[0], model.recurrent_layers[0]
  backend, calm = XlaBackend().stepping(), Dropout(model.config)
  state = [tf.constant(s[None], tf.float32) for s in ([h] if cell == 'gru' else [h, c])]
  projected = project.prepare(backend)(tf.constant(x[None], tf.float32))
  _, after = layer.prepare(backend, calm, 0)(projected, state[0] if cell == 'gru' else tuple(state), None)
  np.testing.assert_allclose(np.stack(tf.nest.flatten(after))[:, 0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kind', ['byte', 'char', 'sentencepiece'])
def test_the_program_runs_by_itself(tmp_path, kind):
  """In a process with neither charlm nor TensorFlow."""
  tokenizer = train_tokenizer(kind, [TEXT.encode()], vocab_size=300)
  model = random_model(tokenizer.vocab_size)
  folder = export(model, tmp_path / 'to', kind)
  hide = ('import runpy, sys; sys.modules.update(dict.fromkeys(["charlm", "data_pipeline", "flags", "tensorflow"])); '
          'sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name="__main__")')
  done = subprocess.run([sys.executable, '-c', hide, str(folder / tensors.PROGRAM), 'the', 'mat'], cwd=tmp_path,
                        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
                             'PYTHONIOENCODING': 'utf-8'}, capture_output=True, check=True)
  written = numpy_model.Model(folder)
  assert done.stdout.decode().splitlines() == written.write('the mat').splitlines() and not done.stderr
  for text in 'the mat\ncaff\u00e8', 'a', '', '\u2581the\u2581\u2581 mat \u2581':
    assert written.encode(text) == tokenizer.encode(text).tolist()
  assert written.pieces == tokenizer.pieces and written.write('', length=3, seed=1)


def test_an_export_that_differs_from_the_model_is_none(tmp_path, monkeypatch):
  weights = tensors.named_weights(random_model(256))
  weights['layers.1.recurrent.weight'] = -weights['layers.1.recurrent.weight']
  monkeypatch.setattr(tensors, 'named_weights', lambda model: weights)
  with pytest.raises(RunError, match='differs from the model in memory'):
    export(random_model(256), tmp_path / 'to')
  assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_told_of(tmp_path):
  model = random_model(256)
  model.output_bias.assign(model.output_bias + float('inf'))
  with pytest.raises(RunError, match='weights of this model are not finite'):
    export(model, tmp_path / 'to')


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'safetensors.numpy', None)
  with pytest.raises(UserError, match=r'pip install .charlm\[safetensors\]'):
    export(random_model(256), tmp_path / 'to')
  assert not list(tmp_path.iterdir())
