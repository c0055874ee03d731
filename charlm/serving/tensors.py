"""Writes a trained model as a file of weights that any library reads, and a program in NumPy that runs them.

    EXPORT_DIR/model.safetensors    the weights, by the names of `named_weights`
    EXPORT_DIR/numpy_model.py       runs them
    and what `portable` writes beside them

A matrix is [numbers of its output, numbers of its input], as in PyTorch. Gates stand one after another: reset, update,
candidate of a GRU; input, forget, candidate, output of an LSTM. Layer norm takes reset and update of a GRU together and
the candidate by itself, all gates of an LSTM together; its epsilon is 1e-5.
"""
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.network.layers import Linear, RecurrentLayer
from charlm.network.model import LanguageModel
from charlm.serving import portable
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import UserError
from flags.serving import ExportConfig

PROGRAM = 'numpy_model.py'


def export(model: LanguageModel, tokenizer: Tokenizer, config: ExportConfig, *, facts: dict[str, Any]) -> pathlib.Path:
  """Writes the weights, what lies beside them, and the program; checks them by it.

  Args:
    model: whose weights are written.
    tokenizer: the model's.
    config: where to.
    facts: what else charlm.json is to say, {name: JSON value}.

  Returns:
    The folder. It appears by rename, whole or not at all.

  Raises:
    UserError: there is such a folder already, it cannot be made, or there is no package safetensors.
    RunError: the model could not be written, or does not answer as it should.
  """
  try:
    from safetensors.numpy import save

    from charlm.serving import numpy_model
  except ImportError as error:
    raise UserError("--format=safetensors: expected safetensors to be installed; pip install 'charlm[safetensors]' "
                    f'({error})') from error
  with portable.new_folder(config.export_dir) as folder:
    (folder / 'model.safetensors').write_bytes(save(named_weights(model)))
    (folder / PROGRAM).write_bytes(pathlib.Path(numpy_model.__file__).read_bytes())
    portable.write_beside(folder, tokenizer, facts)
    written = numpy_model.Model(folder)
    portable.check(portable.in_float32(model), written.step, written.initial)
  return pathlib.Path(config.export_dir)


def named_weights(model: LanguageModel) -> dict[str, np.ndarray]:
  """The weights by name: those of a linear map or a norm as PyTorch's modules have them, `weight` and `bias`."""
  found = {'embedding.weight': model.embedding}
  for i, linear in enumerate(model.input_layers):
    found |= _linear(f'input_layers.{i}', linear)
  for i, layer in enumerate(model.recurrent_layers):
    found |= _recurrent(f'layers.{i}', layer)
  if hasattr(model, 'output_kernel'):  # else it is the embedding
    found['output.weight'] = tf.transpose(model.output_kernel)
  if hasattr(model, 'output_projection'):
    found['output_projection.weight'] = tf.transpose(model.output_projection)
  found['output.bias'] = model.output_bias
  return {name: np.ascontiguousarray(value.numpy()) for name, value in found.items()}


def _linear(name: str, linear: Linear) -> dict[str, Any]:
  """With layer norm, gain and bias are the norm's."""
  of_norm = f'{name}.norm' if hasattr(linear, 'gain') else name
  return {f'{name}.weight': tf.transpose(linear.kernel),
          **({f'{of_norm}.weight': linear.gain} if hasattr(linear, 'gain') else {}),
          **({f'{of_norm}.bias': linear.bias} if hasattr(linear, 'bias') else {})}


def _recurrent(name: str, layer: RecurrentLayer) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for j, linear in enumerate(layer.projections):
    found |= _linear(f'{name}.input.{j}', linear)
  found[f'{name}.recurrent.weight'] = tf.transpose(layer.kernel)
  norm = {'separate': [f'{name}.recurrent.norm.weight'], 'joint': [f'{name}.norm.weight', f'{name}.norm.bias'],
          'none': []}[layer.norm]
  cell = [f'{name}.candidate_bias'] if layer.cell.states == 1 else [f'{name}.cell_norm.{v}' for v in ('weight', 'bias')]
  for names, values in (norm, layer.gain), (cell, layer.cell_weights), (
      [f'{name}.initial_h', f'{name}.initial_c'], layer.initial):
    found |= dict(zip(names, tf.nest.flatten(values), strict=False))
  return found
