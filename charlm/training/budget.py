"""How much of a run is done, by steps, passes over the text, and the clock."""
import time
from typing import Any

from data_pipeline.token_files import TokenFile
from flags.training import TrainConfig


class Budget:
  """The limits of a run: --steps, --epochs, --max_minutes."""

  def __init__(self, config: TrainConfig, valid_file: TokenFile | None = None, *, started: float | None = None):
    """valid_file: to evaluate at the end. started: time.perf_counter() at the start of the command."""
    self.config, self._valid_tokens = config, valid_file.num_tokens if valid_file else 0
    self._started = time.perf_counter() if started is None else started
    self.evaluation_seconds: float | None = None  # of the last one
    self.tokens_per_second: float | None = None  # of training, as last measured

  def state(self) -> dict[str, Any]:
    """What a run that goes on needs to know of it."""
    return {'seconds': self.seconds()}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes on with the seconds of a checkpoint, and those that this command has taken so far."""
    self._started -= state['seconds']

  def seconds(self) -> float:
    """The seconds of training so far, preparation and compilation included."""
    return time.perf_counter() - self._started

  def progress(self, step: int, epochs: float) -> float:
    """Share of the run that is done, 0 to 1.

    It follows the clock only where --max_minutes is the one limit, because time is never the same twice.
    """
    config = self.config
    if config.max_minutes and not config.steps and not config.epochs:
      return min(1.0, self.seconds() / self.training_seconds())
    shares = [step / config.steps if config.steps else 0, epochs / config.max_epochs if config.max_epochs else 0]
    return min(1.0, max(shares))

  def training_seconds(self) -> float:
    """--max_minutes in seconds, less the evaluation at the end, for which at most half of them are left.

    That evaluation takes as long as the one before it. Before the first, it is guessed to be three times as fast as
    training, once it is known how fast that is.
    """
    seconds, last = 60 * self.config.max_minutes, self.evaluation_seconds
    if last is None:
      last = self._valid_tokens / (3 * self.tokens_per_second) if self.tokens_per_second else 0
    return seconds - min(last, seconds / 2)

  def why_stop(self, step: int, epochs: float) -> str:
    """-> the limit that is reached, in words; '' where none is."""
    if self.config.max_minutes and self.seconds() >= self.training_seconds():
      return f'{self.config.max_minutes:g} minutes are over'
    return 'all steps are done' if self.progress(step, epochs) >= 1 else ''
