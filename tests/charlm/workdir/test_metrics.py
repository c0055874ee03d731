"""metrics.jsonl is the record: lines of steps done again are dropped, and the plot is drawn from it."""
import json

import pytest
import tensorflow as tf
from matplotlib.axes import Axes

from charlm.workdir import metrics

LINE = {'epoch': 0.5, 'tokens': 3, 'seconds': 1.0, 'train_nats_per_token': 2.5, 'gradient_norm': 0.5,
        **{f'gradient_norm_p{p}': 0.3 + p / 300 for p in metrics.PERCENTILES},
        'gradient_norm_max': 0.7, 'learning_rate': 0.1}


def events(folder):
  """-> [(tag, step)] of all TensorBoard events."""
  paths = sorted((folder / 'tensorboard').iterdir())
  found = [tf.compat.v1.Event.FromString(r) for path in paths for r in tf.data.TFRecordDataset(str(path))
           .as_numpy_iterator()]
  return [(v.tag, e.step) for e in found for v in e.summary.value]


def test_going_on_drops_what_was_lost_with_a_kill(tmp_path):
  with metrics.Record(tmp_path, 0) as first:
    for step in (10, 20, 30):
      first.report({'step': step, **LINE})
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 40, "epo')  # torn by the kill
  with metrics.Record(tmp_path, 20) as again:
    again.report({'step': 30, **LINE, 'valid_nats_per_token': 2.6})
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [10, 20, 30]
  assert lines[2]['valid_nats_per_token'] == 2.6
  steps = [step for tag, step in events(tmp_path) if tag == 'train_nats_per_token']
  assert steps == [10, 20, 30]


def test_samples_and_plot(tmp_path):
  with metrics.Record(tmp_path, 0) as one:
    one.report({'step': 10, **LINE, 'valid_nats_per_token': 2.6})
    one.sample(10, 'naïve'.encode())
  assert (tmp_path / 'samples' / 'step-00000010.txt').read_text() == 'naïve'
  assert ('sample', 10) in events(tmp_path)
  path = metrics.plot(tmp_path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['metrics.jsonl', 'plot.png', 'samples', 'tensorboard']


def test_interval_sums():
  interval = metrics.Interval()
  assert interval.figures() == {}
  assert interval.add(nats=10.0, tokens=5.0, gradient_norm=1.0, learning_rate=0.1)
  assert interval.add(nats=2.0, tokens=1.0, gradient_norm=3.0, learning_rate=0.2)
  interval.time(6, 2.0)
  assert interval.figures() == {
      'tokens_per_second': 3.0, 'train_nats_per_token': 2.0, 'gradient_norm': 2.0, 'gradient_norm_max': 3.0,
      'gradient_norm_p10': 1.2, 'gradient_norm_p25': 1.5, 'gradient_norm_p50': 2.0, 'gradient_norm_p75': 2.5,
      'gradient_norm_p90': pytest.approx(2.8), 'learning_rate': 0.2}
  assert interval.add(nats=1.0, tokens=2.0, gradient_norm=1.0, learning_rate=0.2, multi_step_nats=4.0,
                      discriminator_accuracy=0.25)
  assert interval.add(nats=1.0, tokens=2.0, gradient_norm=1.0, learning_rate=0.2, multi_step_nats=6.0,
                      discriminator_accuracy=0.75)
  figures = interval.figures()
  assert (figures['multi_step_nats_per_token'], figures['discriminator_accuracy']) == (1.0, 0.5)
  assert metrics.Interval(**interval.asdict()) == interval
  assert not interval.add(nats=float('nan'), tokens=1.0, gradient_norm=1.0, learning_rate=0.1)
  assert not interval.add(nats=1.0, tokens=1.0, gradient_norm=float('inf'), learning_rate=0.1)


def test_the_plot_shows_how_the_norms_are_distributed(tmp_path, monkeypatch):
  bands = {}
  fill = Axes.fill_between

  def fill_between(self, x, low, high, **options):
    bands[options['label']] = (x, low, high)
    return fill(self, x, low, high, **options)

  monkeypatch.setattr(Axes, 'fill_between', fill_between)
  lines = [{**LINE, 'step': step, 'gradient_norm_p10': step, 'gradient_norm_p90': 5 * step} for step in (10, 20)]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in [*lines, {'step': 30}]))
  metrics.plot(tmp_path)
  assert bands['10% to 90%'] == ((10, 20), (10, 20), (50, 100))
  assert bands['25% to 75%'][0] == (10, 20)


@pytest.mark.parametrize('steps', [5, 3])
def test_profile_is_of_the_steps_in_range(steps, tmp_path, capsys):
  with metrics.Record(tmp_path, 0) as kept:
    for step in range(steps):
      with kept.profile(step, range(2, 4)):
        tf.constant(1.0) + 1.0
  assert list((tmp_path / 'tensorboard/plugins/profile').glob('*/*.xplane.pb'))
  assert capsys.readouterr().err.startswith(f'Profiled {min(2, steps - 2)} steps: tensorboard --logdir=')
