"""Small served models that the tests of this room share."""
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from charlm.network.model import LanguageModel
from charlm.serving import export
from charlm.serving.signatures import OPTIONS, ServedModel
from data_pipeline.tokenizers.registry import train_tokenizer
from flags.network import ModelConfig
from flags.serving import ExportConfig

TEXT = 'the cat sat on the mat\n' * 50 + 'caffè, è così\n' * 20
STRUCTURES = {
  'gru': {},
  'lstm': dict(layers=3, cell='lstm', norm='joint', cell_norm=True, wiring='dual_path', combine='concat',
               tie_embeddings=True, zoneout=0.5, zoneout_output=0.1),
  'plain': dict(layer_norm=False, wiring='dense', input_layers=0, initial_state='zeros'),
  'residual': dict(cell='lstm', layer_norm=False, wiring='residual', combine='last', compute_dtype='bfloat16'),
}


class Served:
  """A model, its tokenizer, and its signatures as a client calls them: name(**inputs) -> {output: array}."""

  def __init__(self, kind, structure, config):
    self.tokenizer = train_tokenizer(kind, [TEXT.encode()], vocab_size=300)
    sizes = dict(embedding_size=8, units=16) | ({} if STRUCTURES[structure].get('input_layers') == 0 else
                                                {'input_units': 16})
    self.model = LanguageModel(ModelConfig(**sizes, **STRUCTURES[structure]), self.tokenizer.vocab_size, seed=1)
    for variable in self.model.variables:  # large weights, so that its text is not all noise
      if 'output_kernel' in variable.name or variable.name.startswith('embedding'):
        variable.assign(4 * variable)
      if 'initial' in variable.name and STRUCTURES[structure].get('initial_state') != 'zeros':
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]) / 4)
    self.config = config
    self.served = ServedModel(self.model, self.tokenizer, config)

  def ask(self, name, **inputs):
    """Lists become tensors of the type that the signature wants."""
    specs = {spec.name: spec for spec in self.served.functions[name].input_signature}
    assert set(inputs) == set(specs)
    given = [tf.constant(inputs[key], spec.dtype) for key, spec in specs.items()]
    return {key: value.numpy() for key, value in self.served.functions[name](*given).items()}

  def generate(self, prompts, max_new_tokens=20, **options):
    return self.ask('generate', prompt=prompts, **self.options(max_new_tokens, **options))

  def options(self, max_new_tokens=20, temperature=1.0, top_k=0, top_p=1.0, seed=0):
    given = max_new_tokens, temperature, top_k, top_p, seed
    return {name: np.atleast_1d(value) for name, value in zip(OPTIONS, given, strict=True)}


@functools.cache
def made(kind, structure, options):
  return Served(kind, structure, ExportConfig(**dict(options)))


@pytest.fixture(scope='session')
def serve():
  """(kind, structure, **flags) -> Served."""
  return lambda kind='byte', structure='gru', **flags: made(kind, structure, tuple(flags.items()))


@pytest.fixture(scope='session')
def exported(serve, tmp_path_factory):
  """(kind, structure, **flags) -> the folder of an export of what `serve` gives for these."""
  @functools.cache
  def folder(kind, structure, **flags):
    served = serve(kind, structure, **flags)
    config = dataclasses.replace(served.config, export_dir=str(tmp_path_factory.mktemp('served')))
    return export.export(served.model, served.tokenizer, config, facts={'step': 7})

  return lambda kind='byte', structure='gru', **flags: folder(kind, structure, **flags)
