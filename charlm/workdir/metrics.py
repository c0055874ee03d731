"""What is measured while a model learns: metrics.jsonl, TensorBoard events, and samples of its text.

metrics.jsonl counts: TensorBoard's events are written again from it when a run resumes, so that neither holds steps
that were lost with a kill.
"""
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.workdir import layout
from data_pipeline import atomic
from flags import typed

PERCENTILES = (10, 25, 50, 75, 90)  # of the gradient norms between two reports


@dataclasses.dataclass
class StepMetrics:
  """What the steps since the last report have measured: sums, counts, and all gradient norms."""
  nats: float = 0.0
  tokens: float = 0.0
  gradient_norms: list[float] = dataclasses.field(default_factory=list)
  learning_rate: float = 0.0  # of the last step
  multi_step_nats: float = 0.0  # on what the model predicted, under --multi_step
  discriminator_accuracies: list[float] = dataclasses.field(default_factory=list)  # under --professor_forcing
  timed_tokens: int = 0
  timed_seconds: float = 0.0

  def state(self) -> dict[str, Any]:
    """All of it, for a checkpoint."""
    return {'metrics': dataclasses.asdict(self)}

  def restore(self, state: dict[str, Any]) -> None:
    """Takes its part of the state of a checkpoint."""
    for name, value in state['metrics'].items():
      setattr(self, name, value)

  def reset(self) -> None:
    """Begins anew, after a report."""
    self.restore(StepMetrics().state())

  def add(self, *, nats: float, tokens: float, gradient_norm: float, learning_rate: float,
          multi_step_nats: float = 0.0, discriminator_accuracy: float | None = None) -> bool:
    """Adds what `Learner.step` has measured -> whether loss and gradient are finite."""
    self.nats += nats
    self.tokens += tokens
    self.multi_step_nats += multi_step_nats
    self.discriminator_accuracies += [] if discriminator_accuracy is None else [discriminator_accuracy]
    self.gradient_norms.append(gradient_norm)
    self.learning_rate = learning_rate
    return math.isfinite(nats) and math.isfinite(gradient_norm)

  def add_time(self, tokens: int, seconds: float) -> None:
    """Adds a step to the measure of speed."""
    self.timed_tokens += tokens
    self.timed_seconds += seconds

  def nats_per_token(self) -> float:
    return self.nats / self.tokens if self.tokens else math.nan

  def tokens_per_second(self) -> float:
    return self.timed_tokens / self.timed_seconds if self.timed_seconds else math.nan

  def result(self) -> dict[str, float]:
    """What metrics.jsonl says of these steps, {name: number}; {} where there were none."""
    result = {'tokens_per_second': round(self.tokens_per_second(), 1)} if self.timed_seconds else {}
    if norms := self.gradient_norms:
      percentiles = zip(PERCENTILES, np.percentile(norms, PERCENTILES).tolist(), strict=True)
      result |= {'train_nats_per_token': self.nats_per_token(), 'gradient_norm': sum(norms) / len(norms),
                 **{f'gradient_norm_p{p}': norm for p, norm in percentiles}, 'gradient_norm_max': max(norms),
                 'learning_rate': self.learning_rate}
    if self.multi_step_nats:
      result['multi_step_nats_per_token'] = self.multi_step_nats / self.tokens
    if accuracies := self.discriminator_accuracies:
      result['discriminator_accuracy'] = sum(accuracies) / len(accuracies)
    return result


class MetricWriter:
  """Writes metrics.jsonl, TensorBoard events and samples of a run."""

  def __init__(self, workdir: str | pathlib.Path, step: int):
    """Opens the files to go on after `step`. What they hold of later steps, which are done again, is removed.

    Raises:
      OSError, tf.errors.OpError: a file cannot be written.
    """
    self._samples, self._tensorboard = layout.samples_folder(workdir), layout.tensorboard_folder(workdir)
    path = layout.metrics_path(workdir)
    lines = [line for line in read_metrics(path) if line['step'] <= step]
    atomic.write(path, ''.join(json.dumps(line) + '\n' for line in lines).encode())
    self._file = open(path, 'a')  # noqa: SIM115, closed by __exit__
    for path in self._samples.glob('step-*.txt'):
      if int(path.stem.partition('-')[2]) > step:
        path.unlink()
    for path in self._tensorboard.glob('events.out.*'):  # profiles stay
      path.unlink()
    self._events = tf.summary.create_file_writer(os.fsencode(self._tensorboard))
    self._profiled_steps = 0  # in the profile that is being made
    for line in lines:
      self._write_events(line)

  def write(self, line: dict[str, Any]) -> None:
    """Adds a line to metrics.jsonl, and its numbers to TensorBoard. line: {'step': ..., name: number}."""
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
    self._write_events(line)

  def _write_events(self, line: dict[str, Any]) -> None:
    with self._events.as_default(step=line['step']):
      for name, value in line.items():
        if name != 'step':
          tf.summary.scalar(name, value)
    self._events.flush()

  def write_sample(self, step: int, text: bytes) -> None:
    """Keeps what the model has written at this step."""
    self._samples.mkdir(exist_ok=True)
    atomic.write(self._samples / f'step-{step:08d}.txt', text)
    with self._events.as_default(step=step):
      tf.summary.text('sample', '    ' + text.decode('utf-8', 'replace').replace('\n', '\n    '))

  @contextlib.contextmanager
  def profile(self, step: int, steps: range) -> Iterator[None]:
    """Goes around each step, and makes TensorBoard's profile of those in `steps`, or of as many as the run has."""
    if step not in steps:
      yield
      return
    if not self._profiled_steps:
      tf.profiler.experimental.start(os.fsencode(self._tensorboard))
    self._profiled_steps += 1
    with tf.profiler.experimental.Trace('train', step_num=step, _r=1):
      yield
    if step == steps[-1]:
      self._end_profile()

  def _end_profile(self) -> None:
    tf.profiler.experimental.stop()
    where = typed.flag('logdir', self._tensorboard.parent)
    print(f'Profiled {self._profiled_steps} steps: tensorboard {where}, page Profile', file=sys.stderr)
    self._profiled_steps = 0

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, *error: object) -> None:
    if self._profiled_steps:
      self._end_profile()
    with contextlib.suppress(OSError, tf.errors.OpError):  # what could not be written has been told of already
      self._file.close()
      self._events.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of a metrics.jsonl. A last line that a kill has torn is left out."""
  lines: list[dict[str, Any]] = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      read = json.loads(line)
    except json.JSONDecodeError:
      break
    if not isinstance(read, dict):
      break
    lines.append(read)
  return lines
