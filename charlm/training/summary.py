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
  samples = layout.samples_folder(folder)
  best = ('' if state['best_nats'] is None else
          f' Best validation loss {state["best_nats"]:.4f} nats per token, at step {state["best_step"]}.')
  return '\n'.join([
      f'Trained for {state["step"]} steps: {state["finished"]}.{best}',
      f'  {folder / "checkpoints"}/   {_used_weights(state, average)}, and the last two checkpoints',
      f'  {layout.metrics_path(folder)}   a line per report; drawn in {layout.plot_path(folder)}',
      *[f'  {samples}/   what the model wrote while it learned'] * samples.exists(),
      f'  {layout.tensorboard_folder(folder)}/   events: tensorboard {typed.flag("logdir", folder)}',
      f'Next: charlm-sample {given}, charlm-evaluate {given}, charlm-export {given} --export_dir=DIR'])


def _used_weights(state: Mapping[str, Any], average: str) -> str:
  """Which weights the other commands use, in words."""
  kind, step = ('last', state['step']) if state['best_nats'] is None else ('best', state['best_step'])
  since = state['average_from']
  averaged = {'none': '', 'ema': ', averaged',
              'validation': '' if since is None or since >= step else f', averaged since step {since}'}
  return f'the {kind} weights (of step {step}{averaged[average]}), which the other commands use'
