"""charlm-export: writes a trained model for TF Serving, for other libraries or for small devices."""
import dataclasses
import pathlib
from typing import Any

from charlm.commands import console, streams
from charlm.workdir import layout
from flags import typed
from flags.errors import UserError
from flags.serving import ExportConfig


def main(given: dict[str, Any]) -> None:
  """writes a trained model as a SavedModel for TF Serving, or in another format.

  charlm-export --workdir=runs/mine --export_dir=served/mine
  charlm-export --workdir=runs/mine --export_dir=mine.litert --format=litert

  A SavedModel goes to a new folder EXPORT_DIR/VERSION, the others to EXPORT_DIR itself, which has to
  be new. None needs charlm to run.
  """
  chosen = ExportConfig(**given)
  if not chosen.export_dir:
    raise UserError('--export_dir: expected a folder for the exported model, such as --export_dir=served/mine')
  layout.read_config(chosen.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.serving import export, litert, tensors
    from charlm.workdir import trained_model
  opened = trained_model.load_model(chosen.workdir, chosen.weights)
  if chosen.format == 'savedmodel':
    path = export.export(opened.model, opened.tokenizer, chosen, facts=facts(opened))
    print(f'{typed.line(path)}\n{use_of_saved_model(path, opened.tokenizer, chosen)}')
  elif chosen.format == 'safetensors':
    path = tensors.export(opened.model, opened.tokenizer, chosen, facts=facts(opened))
    print(f'{typed.line(path)}\n'
          f"  NumPy:   python {typed.quoted(path / tensors.PROGRAM)} 'Once upon'\n"
          f'  weights: safetensors.numpy.load_file({typed.words(path / "model.safetensors")!r})')
  else:
    with streams.quietly():  # the converter and the interpreter write what they do
      path = litert.export(opened.model, opened.tokenizer, chosen, facts=facts(opened))
    print(f'{typed.line(path)}\n'
          '  in Python: from ai_edge_litert.interpreter import Interpreter\n'
          f'             step = Interpreter({typed.words(path / "model.tflite")!r}).get_signature_runner()\n'
          "             step(token=..., state=...)['log_probs']; charlm.json has the first state")


def use_of_saved_model(path: pathlib.Path, tokenizer: Any, chosen: ExportConfig) -> str:
  """Lines that say how a SavedModel is used."""
  by_ids = chosen.text_ops == 'none'
  first = 'import tensorflow_text; ' if not by_ids and tokenizer.trackable else ''
  asked = ("['prefill'](tokens=tf.constant([[0]]))['log_probs']" if by_ids else
           "['serving_default'](prompt=tf.constant(['Once upon']))['text']")
  return (f"  in Python:  {first}import tensorflow as tf; model = tf.saved_model.load({typed.words(path)!r})\n"
          f'              model.signatures{asked}\n'
          '  TF Serving: tensorflow_model_server --rest_api_port=8501 --model_name=charlm '
          f'{typed.flag("model_base_path", path.parent.resolve())}')


def facts(opened: Any) -> dict[str, Any]:
  """What a client may want to know of a model: its step, its validation loss (None if not known), its configuration.

  `weights` is best or last. Of the configuration that is the network and how its text is read: no path of this machine,
  and nothing of the run.
  """
  state, config = opened.state, opened.config
  valid = state['best_nats'] if state['step'] == state['best_step'] else None
  text = {name: getattr(config.data, name) for name in ('on_invalid', 'document_reset', 'document_separator')}
  return {'weights': opened.taken, 'step': state['step'], 'valid_nats_per_token': valid,
          'config': {'data': text, 'model': dataclasses.asdict(config.model)}}


run = console.command(main, ExportConfig)

if __name__ == '__main__':
  run()
