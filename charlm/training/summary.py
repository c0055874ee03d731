"""What a run has left, in words."""
import pathlib
from collections.abc import Mapping
from typing import Any

from charlm.workdir import layout
from charlm.workdir.names import Folder
from flags import typed


def summarize(workdir: Folder, state: Mapping[str, Any], average: str = 'none') -> str:
  """Says where everything is, and what to do next.

  Args:
    workdir: the folder of the run.
    state: of the trainer.
    average: of --average.
  """
  folder = pathlib.Path(workdir)
  given = typed.flag('workdir', folder)
  checkpoints, samples, tensorboard, metrics, plot = (typed.line(path) for path in (
      folder / 'checkpoints', layout.samples_folder(folder), layout.tensorboard_folder(folder),
      layout.metrics_path(folder), layout.plot_path(folder)))
  best = ('' if state['best_nats'] is None else
          f' Best validation loss {state["best_nats"]:.4f} nats per token, at step {state["best_step"]}.')
  return '\n'.join([
      f'Trained for {state["step"]} steps: {state["finished"]}.{best}',
      f'  {checkpoints}/   {_used_weights(state, average)}, and the last two checkpoints',
      f'  {metrics}   a line per report; drawn in {plot}',
      *[f'  {samples}/   what the model wrote while it learned'] * layout.samples_folder(folder).exists(),
      f'  {tensorboard}/   events: tensorboard {typed.flag("logdir", folder)}',
      f'Next: charlm-sample {given}, charlm-evaluate {given}, charlm-export {given} --export_dir=DIR'])


def _used_weights(state: Mapping[str, Any], average: str) -> str:
  """Which weights the other commands use, in words."""
  kind, step = ('last', state['step']) if state['best_nats'] is None else ('best', state['best_step'])
  since = state['average_from']
  averaged = {'none': '', 'ema': ', averaged',
              'validation': '' if since is None or since >= step else f', averaged since step {since}'}
  return f'the {kind} weights (of step {step}{averaged[average]}), which the other commands use'
