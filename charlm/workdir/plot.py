"""plot.png: the losses of a run, and how the gradient norms are distributed."""
import pathlib

from charlm.workdir import layout, metrics
from data_pipeline import atomic


def draw(workdir: str | pathlib.Path) -> pathlib.Path:
  """Draws metrics.jsonl as plot.png -> its path.

  Raises:
    OSError: it cannot be written.
  """
  from matplotlib.figure import Figure  # half a second, needed at the end only
  lines = metrics.read_metrics(layout.metrics_path(workdir))
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
    band = [[line[name] for name in names] for line in lines if names[1] in line]
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
