"""plot.png: the losses of a run, and how the gradient norms are distributed."""
import logging
import pathlib
import sys
import warnings

from charlm.workdir import layout, metrics
from charlm.workdir.names import Folder
from data_pipeline import atomic
from flags.errors import RunError


def try_to_draw(workdir: Folder) -> None:
  """Draws plot.png. A run does not fail by that: where it cannot be drawn, a notice says why.

  Raises:
    RunError: the workdir is gone.
  """
  logging.getLogger('matplotlib').setLevel(logging.ERROR)  # it says where it keeps its fonts
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      draw(workdir)
  except RunError:
    raise
  except Exception as error:  # whatever fonts, settings and versions of matplotlib may lead to
    what = getattr(error, 'strerror', None) or [*str(error).splitlines(), ''][0]
    print(f'notice: {layout.plot_path(workdir)} was not drawn ({type(error).__name__}: {what}); all else is saved',
          file=sys.stderr)


def draw(workdir: Folder) -> pathlib.Path:
  """Draws metrics.jsonl as plot.png -> its path.

  Raises:
    OSError: it cannot be written.
  """
  from matplotlib.figure import Figure  # half a second, needed at the end only
  lines = [{**metrics.numbers(line), 'step': line['step']}
           for line in metrics.read_metrics(layout.metrics_path(workdir))]
  figure = Figure(figsize=(8, 7), layout='constrained')
  loss, norm = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
  for axes, name, label, style in [(loss, 'train_nats_per_token', 'training', '-'),
                                   (loss, 'valid_nats_per_token', 'validation', 'o-'),
                                   (norm, 'gradient_norm_p50', 'median', '-'),
                                   (norm, 'gradient_norm_max', 'largest', ':')]:
    points = [(line['step'], line[name]) for line in lines if name in line]
    axes.plot(*zip(*points, strict=True) if points else ([], []), style, label=label, markersize=3)
  for low, high, alpha in (10, 90, 0.15), (25, 75, 0.35):
    names = 'step', f'gradient_norm_p{low}', f'gradient_norm_p{high}'
    band = [[line[name] for name in names] for line in lines if line.keys() >= {*names}]
    norm.fill_between(*zip(*band, strict=True) if band else ([], [], []), color='C0', alpha=alpha,
                      label=f'{low}% to {high}%')
  loss.set_ylabel('nats per token')
  has_norms = any('gradient_norm_p50' in line for line in lines)  # without any, a logarithmic axis is an error
  norm.set(xlabel='step', ylabel='gradient norm before clipping', yscale='log' if has_norms else 'linear')
  for axes in (loss, norm):
    axes.grid(alpha=0.3)
    axes.legend()
  path = layout.plot_path(workdir)
  with atomic.file(path) as file:
    figure.savefig(file, format='png', dpi=120)
  return path
