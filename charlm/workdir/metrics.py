"""The record of a run: metrics.jsonl, TensorBoard events, samples of text, and a plot.

metrics.jsonl is the record; TensorBoard's events are written anew from it when a run is gone on with, so that
neither holds steps that were lost with a kill.
"""
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys

import numpy as np
import tensorflow as tf

PERCENTILES = (10, 25, 50, 75, 90)  # of the gradient norms between two reports


@dataclasses.dataclass
class Interval:
  """Sums over the steps since the last report, and their gradient norms."""
  nats: float = 0.0
  tokens: float = 0.0
  norms: list = dataclasses.field(default_factory=list)
  learning_rate: float = 0.0
  multi_step_nats: float = 0.0  # on what the model predicted, under --multi_step
  accuracies: list = dataclasses.field(default_factory=list)  # of the discriminator, under --professor_forcing
  timed_tokens: int = 0
  timed_seconds: float = 0.0

  asdict = dataclasses.asdict

  def add(self, *, nats, tokens, gradient_norm, learning_rate, multi_step_nats=0.0, discriminator_accuracy=None):
    """Takes in one step. -> whether its numbers are finite."""
    self.nats += nats
    self.tokens += tokens
    self.multi_step_nats += multi_step_nats
    self.accuracies += [] if discriminator_accuracy is None else [discriminator_accuracy]
    self.norms.append(gradient_norm)
    self.learning_rate = learning_rate
    return math.isfinite(nats) and math.isfinite(gradient_norm)

  def time(self, tokens, seconds):
    self.timed_tokens += tokens
    self.timed_seconds += seconds

  def nats_per_token(self):
    return self.nats / self.tokens if self.tokens else math.nan

  def tokens_per_second(self):
    return self.timed_tokens / self.timed_seconds if self.timed_seconds else math.nan

  def figures(self):
    """-> the line of metrics.jsonl for these steps: {} where there were none."""
    figures = {'tokens_per_second': round(self.tokens_per_second(), 1)} if self.timed_seconds else {}
    if self.norms:
      percentiles = zip(PERCENTILES, np.percentile(self.norms, PERCENTILES).tolist(), strict=True)
      figures |= {'train_nats_per_token': self.nats_per_token(), 'gradient_norm': sum(self.norms) / len(self.norms),
                  **{f'gradient_norm_p{p}': norm for p, norm in percentiles}, 'gradient_norm_max': max(self.norms),
                  'learning_rate': self.learning_rate}
    if self.multi_step_nats:
      figures['multi_step_nats_per_token'] = self.multi_step_nats / self.tokens
    if self.accuracies:
      figures['discriminator_accuracy'] = sum(self.accuracies) / len(self.accuracies)
    return figures


class Record:
  """Writes the record of a run in `workdir`, from `step` on; what is there of later steps, now done again, goes."""

  def __init__(self, workdir, step):
    self.workdir = pathlib.Path(workdir)
    self.path = self.workdir / 'metrics.jsonl'
    lines = [line for line in read_metrics(self.path) if line['step'] <= step]
    temporary = self.path.with_name('.metrics.jsonl.tmp')
    temporary.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    os.replace(temporary, self.path)
    self._file = open(self.path, 'a')  # noqa: SIM115, closed by __exit__
    for path in (self.workdir / 'samples').glob('step-*.txt'):
      if int(path.stem.partition('-')[2]) > step:
        path.unlink()
    events = self.workdir / 'tensorboard'
    for path in events.glob('events.out.*'):  # profiles stay
      path.unlink()
    self._events = tf.summary.create_file_writer(str(events))
    self._profiled = 0  # steps in the profile that is being made
    for line in lines:
      self._scalars(line)

  def report(self, line):
    """line: {'step': ..., name: number}. Goes to metrics.jsonl and TensorBoard."""
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
    self._scalars(line)

  def _scalars(self, line):
    with self._events.as_default(step=line['step']):
      for name, value in line.items():
        if name != 'step':
          tf.summary.scalar(name, value)
    self._events.flush()

  def sample(self, step, text):
    """Keeps a sample of the model's text (bytes)."""
    folder = self.workdir / 'samples'
    folder.mkdir(exist_ok=True)
    (folder / f'step-{step:08d}.txt').write_bytes(text)
    with self._events.as_default(step=step):
      tf.summary.text('sample', '    ' + text.decode('utf-8', 'replace').replace('\n', '\n    '))

  @contextlib.contextmanager
  def profile(self, step, steps):
    """Around each step: TensorBoard's profile of those in `steps`, a range, or of as many as the run has."""
    if step not in steps:
      yield
      return
    if not self._profiled:
      tf.profiler.experimental.start(str(self.workdir / 'tensorboard'))
    self._profiled += 1
    with tf.profiler.experimental.Trace('train', step_num=step, _r=1):
      yield
    if step == steps[-1]:
      self._end_profile()

  def _end_profile(self):
    tf.profiler.experimental.stop()
    print(f'Profiled {self._profiled} steps: tensorboard --logdir={self.workdir}, page Profile', file=sys.stderr)
    self._profiled = 0

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._profiled:
      self._end_profile()
    with contextlib.suppress(OSError, tf.errors.OpError):  # what could not be written has been told of already
      self._file.close()
      self._events.close()


def read_metrics(path):
  """The lines of a metrics.jsonl as dicts; a last line torn by a kill is left out."""
  lines = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      read = json.loads(line)
    except json.JSONDecodeError:
      break
    if not isinstance(read, dict):
      break
    lines.append(read)
  return lines


def plot(workdir):
  """Draws metrics.jsonl as plot.png: the losses, and how the gradient norms are distributed. -> its path."""
  from matplotlib.figure import Figure  # half a second, needed at the end only
  lines = read_metrics(pathlib.Path(workdir, 'metrics.jsonl'))
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
    points = [[line[name] for name in names] for line in lines if names[1] in line]
    norm.fill_between(*zip(*points, strict=True) if points else ([], [], []), color='C0', alpha=alpha,
                      label=f'{low}% to {high}%')
  loss.set_ylabel('nats per token')
  norm.set(xlabel='step', ylabel='gradient norm before clipping', yscale='log')
  for axes in (loss, norm):
    axes.grid(alpha=0.3)
    axes.legend()
  path = pathlib.Path(workdir, 'plot.png')
  temporary = path.with_name('.plot.tmp.png')
  figure.savefig(temporary, dpi=120)
  os.replace(temporary, path)
  return path
