"""What is measured while a model learns: metrics.jsonl, TensorBoard events, and samples of its text.

metrics.jsonl counts: TensorBoard's events are written again from it when a run resumes, so that neither holds steps
that were lost with a kill. Its lines are JSON objects with a step; a line that is something else, such as a note, stays
where it is and counts nowhere.
"""
import contextlib
import dataclasses
import json
import math
import os
from typing import Any

import numpy as np

from charlm.workdir import layout, names
from charlm.workdir.names import Folder
from charlm.workdir.tensorboard import TensorBoard
from data_pipeline import atomic
from flags.errors import RunError
from flags.schema import is_text

MOST = float(np.finfo(np.float32).max)  # that TensorBoard takes
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

  def __init__(self, workdir: Folder, step: int):
    """Goes on after `step`. What the files hold of later steps, which are done again, is removed.

    Raises:
      OSError: a file cannot be written.
    """
    self._workdir = workdir
    path = layout.metrics_path(workdir)
    kept = [line for line in _split(path) if not _is_torn(line) and (_step(_parse(line)) or 0) <= step]
    atomic.write(path, b''.join(line + b'\n' for line in kept))
    for later, sample in names.step_files(layout.samples_folder(workdir), '.txt').items():
      if later > step:
        sample.unlink()
    self.tensorboard = TensorBoard(workdir)
    for line in read_metrics(path):
      self.tensorboard.write(line['step'], numbers(line))

  def write(self, line: dict[str, Any]) -> None:
    """Adds a line to metrics.jsonl, and its numbers to TensorBoard. line: {'step': ..., name: number}."""
    # Opened anew each time: somebody may have moved the folder, or removed or edited the file.
    with open(layout.metrics_path(self._workdir), 'ab+') as file:
      if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b'\n':
        file.write(b'\n')
      file.write(json.dumps(line).encode() + b'\n')
    self.tensorboard.write(line['step'], numbers(line))

  def write_sample(self, step: int, text: bytes) -> None:
    """Keeps what the model has written at this step."""
    folder = layout.samples_folder(self._workdir)
    atomic.make_folder(folder, parents=False)
    atomic.write(folder / names.step_name(step, '.txt'), text)
    self.tensorboard.write_text(step, text)

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, *error: object) -> None:
    self.tensorboard.close()


def sync(workdir: Folder) -> None:
  """Returns once the lines of metrics.jsonl are on the disk. Raises RunError where they cannot get there."""
  path = layout.metrics_path(workdir)
  try:
    atomic.sync(path)
  except FileNotFoundError:  # somebody has removed it
    pass
  except OSError as error:
    raise RunError(f'{path}: cannot be written ({error.strerror}). Make room, then run the same command again'
                   ) from error


class NoWriter:
  """Takes the place of a MetricWriter in the processes of a run that write nothing."""

  def __init__(self) -> None:
    self.tensorboard = self

  def write(self, line: dict[str, Any]) -> None:
    """As `MetricWriter.write`."""

  def profile(self, step: int, taken: int, steps: range) -> contextlib.AbstractContextManager:
    """As `TensorBoard.profile`."""
    return contextlib.nullcontext()

  def __enter__(self) -> 'NoWriter':
    return self

  def __exit__(self, *error: object) -> None:
    pass


def read_metrics(path: Folder) -> list[dict[str, Any]]:
  """The lines of a metrics.jsonl that have a step, in their order; [] where there is no file. Raises OSError."""
  return [line for line in read_lines(path) if _step(line) is not None]


def read_lines(path: Folder) -> list[dict[str, Any]]:
  """The JSON objects among the lines of a file; [] where there is no file. Raises OSError."""
  return [line for line in map(_parse, _split(path)) if isinstance(line, dict)]


def numbers(line: dict[str, Any]) -> dict[str, float]:
  """What a line of metrics.jsonl says beside its step: {name: number}, without those that float32 cannot hold."""
  found = {}
  for name, value in line.items():
    if name != 'step' and is_text(name) and isinstance(value, int | float) and not isinstance(value, bool):
      with contextlib.suppress(OverflowError):
        found[name] = float(value)
  return {name: value for name, value in found.items() if abs(value) <= MOST}


def _split(path: Folder) -> list[bytes]:
  try:
    with open(path, 'rb') as file:
      return file.read().removesuffix(b'\n').split(b'\n') if os.fstat(file.fileno()).st_size else []
  except FileNotFoundError:
    return []


def _parse(line: bytes) -> Any:
  """What a line says in JSON; None for any other text."""
  try:
    return json.loads(line.decode())
  except (ValueError, RecursionError):
    return None


def _step(line: Any) -> int | None:
  """The step that a line is of, None where it is of none."""
  step = line.get('step') if isinstance(line, dict) else None
  return step if type(step) is int and 0 <= step < 2**63 else None


def _is_torn(line: bytes) -> bool:
  """Whether a kill has cut this line off. What somebody else wrote does not begin like that."""
  begin = b'{"step": '
  return bool(line) and (line.startswith(begin) or begin.startswith(line)) and _parse(line) is None
