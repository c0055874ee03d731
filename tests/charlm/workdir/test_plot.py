"""The plot is drawn from metrics.jsonl."""
import json

import pytest
from matplotlib.axes import Axes

from charlm.workdir import metrics, plot

LINE = {'train_nats_per_token': 2.5, 'gradient_norm_max': 0.7,
        **{f'gradient_norm_p{p}': 0.3 + p / 300 for p in metrics.PERCENTILES}}


def write_lines(folder, *lines):
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_a_picture_is_all_that_is_left(tmp_path):
  write_lines(tmp_path, {**LINE, 'step': 10, 'valid_nats_per_token': 2.6})
  path = plot.draw(tmp_path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['metrics.jsonl', 'plot.png']


@pytest.mark.parametrize('lines', [[], [{'step': 5, 'valid_nats_per_token': 2.0}]], ids=['none', 'no norms'])
def test_metrics_without_norms_are_drawn(tmp_path, lines):
  write_lines(tmp_path, *lines)
  assert plot.draw(tmp_path).exists()


def test_the_plot_shows_how_the_norms_are_distributed(tmp_path, monkeypatch):
  bands = {}
  fill = Axes.fill_between

  def fill_between(self, x, low, high, **options):
    bands[options['label']] = (x, low, high)
    return fill(self, x, low, high, **options)

  monkeypatch.setattr(Axes, 'fill_between', fill_between)
  lines = [{**LINE, 'step': step, 'gradient_norm_p10': step, 'gradient_norm_p90': 5 * step} for step in (10, 20)]
  write_lines(tmp_path, *lines, {'step': 30})
  plot.draw(tmp_path)
  assert bands['10% to 90%'] == ((10, 20), (10, 20), (50, 100))
  assert bands['25% to 75%'][0] == (10, 20)
