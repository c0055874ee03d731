"""Writes a trained model in LiteRT's format, for phones, browsers and small devices: a step that reads a token.

    EXPORT_DIR/model.tflite    signature step: token int32 [B], state float32 [B, D]
                                               -> log_probs float32 [B, V] of the next token, state float32 [B, D]
    and what `portable` writes beside it; charlm.json has the state where text begins
"""
import pathlib
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.network.model import LanguageModel
from charlm.serving import portable
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError
from flags.serving import ExportConfig

MOST_BYTES = 2**31 - 2**26  # a .tflite file has at most 2 GB; the rest of the graph takes a few MB


def export(model: LanguageModel, tokenizer: Tokenizer, config: ExportConfig, *, facts: dict[str, Any]) -> pathlib.Path:
  """Writes the step and what lies beside it; checks it in LiteRT's interpreter.

  Args:
    model: whose weights are written.
    tokenizer: the model's.
    config: where to.
    facts: what else charlm.json is to say, {name: JSON value}.

  Returns:
    The folder. It appears by rename, whole or not at all.

  Raises:
    UserError: there is such a folder already, it cannot be made, or there is no package ai-edge-litert.
    RunError: the model could not be written, or does not answer as it should.
  """
  try:
    from ai_edge_litert.interpreter import Interpreter
  except ImportError as error:
    raise UserError("--format=litert: expected ai-edge-litert to be installed; pip install 'charlm[litert]' "
                    f'({error})') from error
  model = portable.in_float32(model)
  initial = _packed(model.initial_state(1)).numpy()
  first = [float(f'{number:.9g}') for number in initial[0].tolist()]  # nine digits are a float32
  with portable.new_folder(config.export_dir) as folder:
    path = folder / 'model.tflite'
    path.write_bytes(_converted(model))
    portable.write_beside(folder, tokenizer, {'state_size': len(first), 'initial_state': first, **facts})
    runner = Interpreter(model_content=path.read_bytes()).get_signature_runner('step')

    def step(token: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
      answer = runner(token=np.array([token], np.int32), state=state)
      return answer['log_probs'][0], answer['state']

    portable.check(model, step, initial)
  return pathlib.Path(config.export_dir)


def _converted(model: LanguageModel) -> bytes:
  """The step, converted by TensorFlow. Raises RunError where it is too large."""
  if (size := 4 * sum(v.shape.num_elements() for v in model.variables)) > MOST_BYTES:
    raise RunError(f'the weights of this model take {size:,} bytes: expected at most {MOST_BYTES:,}, as a .tflite file '
                   'cannot hold more')
  advance, initial = model.stepper(table=_table_is_smaller(model)), model.initial_state(1)
  sizes = [s.shape[1] for s in tf.nest.flatten(initial)]

  def step(token: tf.Tensor, state: tf.Tensor) -> dict[str, tf.Tensor]:
    logits, after = advance(token, tf.nest.pack_sequence_as(initial, tf.split(state, sizes, 1)))
    return {'log_probs': tf.nn.log_softmax(logits), 'state': _packed(after)}

  specs = [tf.TensorSpec([None], tf.int32, 'token'), tf.TensorSpec([None, sum(sizes)], tf.float32, 'state')]
  function = tf.function(step, input_signature=specs, autograph=False)
  with tempfile.TemporaryDirectory() as folder:
    tf.saved_model.save(tf.Module(), folder, {'step': function})
    return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=['step']).convert()


def _packed(state: Any) -> tf.Tensor:
  """A nest of [B, H] -> [B, D]."""
  return tf.concat(tf.nest.flatten(state), 1)


def _table_is_smaller(model: LanguageModel) -> bool:
  """Whether a table of what follows from each token takes less room than the weights that it is made of."""
  entries = [p for layer, reads in zip(model.recurrent_layers, model.reads_entry, strict=True)
             for p in layer.projections[:reads]]
  made_of = [v for linear in [*model.input_layers, *entries] for v in linear.variables]
  if not model.config.tie_embeddings:
    made_of.append(model.embedding)
  table = model.vocab_size * sum(p.kernel.shape[1] for p in entries)
  return table <= sum(v.shape.num_elements() for v in made_of)
