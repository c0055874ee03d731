"""metrics.jsonl is the record: lines of steps that are done again are dropped."""
import json

import pytest
import tensorflow as tf

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
  with metrics.MetricWriter(tmp_path, 0) as writer:
    for step in (10, 20, 30):
      writer.write({'step': step, **LINE})
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 40, "epo')  # torn by the kill
  with metrics.MetricWriter(tmp_path, 20) as writer:
    writer.write({'step': 30, **LINE, 'valid_nats_per_token': 2.6})
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [10, 20, 30]
  assert lines[2]['valid_nats_per_token'] == 2.6
  steps = [step for tag, step in events(tmp_path) if tag == 'train_nats_per_token']
  assert steps == [10, 20, 30]


def test_samples(tmp_path):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    writer.write_sample(10, 'naïve'.encode())
  assert (tmp_path / 'samples' / 'step-00000010.txt').read_text() == 'naïve'
  assert ('sample', 10) in events(tmp_path)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['metrics.jsonl', 'samples', 'tensorboard']


def test_step_metrics_sums():
  step_metrics = metrics.StepMetrics()
  assert step_metrics.result() == {}
  assert step_metrics.add(nats=10.0, tokens=5.0, gradient_norm=1.0, learning_rate=0.1)
  assert step_metrics.add(nats=2.0, tokens=1.0, gradient_norm=3.0, learning_rate=0.2)
  step_metrics.add_time(6, 2.0)
  assert step_metrics.result() == {
      'tokens_per_second': 3.0, 'train_nats_per_token': 2.0, 'gradient_norm': 2.0, 'gradient_norm_max': 3.0,
      'gradient_norm_p10': 1.2, 'gradient_norm_p25': 1.5, 'gradient_norm_p50': 2.0, 'gradient_norm_p75': 2.5,
      'gradient_norm_p90': pytest.approx(2.8), 'learning_rate': 0.2}
  assert step_metrics.add(nats=1.0, tokens=2.0, gradient_norm=1.0, learning_rate=0.2, multi_step_nats=4.0,
                      discriminator_accuracy=0.25)
  assert step_metrics.add(nats=1.0, tokens=2.0, gradient_norm=1.0, learning_rate=0.2, multi_step_nats=6.0,
                      discriminator_accuracy=0.75)
  result = step_metrics.result()
  assert (result['multi_step_nats_per_token'], result['discriminator_accuracy']) == (1.0, 0.5)
  other = metrics.StepMetrics(nats=5.0)
  other.restore(json.loads(json.dumps(step_metrics.state())))
  assert other == step_metrics
  other.reset()
  assert other == metrics.StepMetrics()
  assert not step_metrics.add(nats=float('nan'), tokens=1.0, gradient_norm=1.0, learning_rate=0.1)
  assert not step_metrics.add(nats=1.0, tokens=1.0, gradient_norm=float('inf'), learning_rate=0.1)


@pytest.mark.parametrize('steps', [5, 3])
def test_profile_is_of_the_steps_in_range(steps, tmp_path, capsys):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    for step in range(steps):
      with writer.tensorboard.profile(step, 1, range(2, 4)):
        tf.constant(1.0) + 1.0
  assert list((tmp_path / 'tensorboard/plugins/profile').glob('*/*.xplane.pb'))
  assert capsys.readouterr().err.startswith(f'Profiled {min(2, steps - 2)} steps: tensorboard --logdir=')
