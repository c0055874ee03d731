"""What follows from the losses of a run: the best weights, a lower learning rate, an average of weights, the end."""
import dataclasses
from typing import Any

from flags.training import TrainConfig


@dataclasses.dataclass
class LossMonitor:
  """Takes in losses and decides. All that a decision depends on is in `state()`, for checkpoints."""
  config: TrainConfig
  best_nats: float | None = None
  best_step: int = 0
  waited: int = 0  # evaluations since the best one
  stayed: int = 0  # evaluations since the best one, or since the learning rate was last lowered
  rate_scale: float = 1.0
  valid_nats: list[float] = dataclasses.field(default_factory=list)  # of all evaluations
  average_from: int | None = None  # the step whose weights are the first in the mean
  epoch_nats: float = 0.0  # of the pass that is going on
  epoch_tokens: float = 0.0
  best_epoch_nats: float | None = None
  flat: int = 0  # passes since the best one

  def state(self) -> dict[str, Any]:
    """All that its decisions depend on, for a checkpoint."""
    return {name: value for name, value in dataclasses.asdict(self).items() if name != 'config'}

  def restore(self, state: dict[str, Any]) -> None:
    """Takes its part of the state of a checkpoint."""
    for name in self.state():
      setattr(self, name, state[name])

  def forget_best(self) -> None:
    """Takes the next validation loss for the best, as the best weights are lost."""
    self.best_nats, self.best_step, self.waited, self.stayed = None, 0, 0, 0

  def validated(self, nats: float, step: int) -> bool:
    """Takes in a validation loss. -> whether it is the best so far."""
    best = self.best_nats is None or nats < self.best_nats
    if best:
      self.best_nats, self.best_step, self.waited, self.stayed = nats, step, 0, 0
    else:
      self.waited, self.stayed = self.waited + 1, self.stayed + 1
    if self.config.schedule == 'plateau' and self.stayed >= self.config.plateau_patience:
      self.rate_scale, self.stayed = self.rate_scale * self.config.plateau_factor, 0
    before = self.valid_nats[:max(0, len(self.valid_nats) - self.config.average_patience)]
    if self.config.average == 'validation' and self.average_from is None and before and nats > min(before):
      self.average_from = step
    self.valid_nats.append(nats)
    return best

  def average_share(self, step: int) -> float:
    """Share of the weights after the next step in their average. step: how many have been done.

    ema: the decay is d or, in the first steps, t/(t + 9), so that a short run does not remember its first weights.
    validation (NT-ASGD; Merity, Keskar, Socher 2018): the mean of all weights since the loss stayed; until then the
    average is the weights themselves.
    """
    if self.config.average == 'ema':
      return 1 - min(self.config.ema_decay, step / (step + 9))
    return 1.0 if self.average_from is None else 1 / (step + 2 - self.average_from)

  def trained(self, nats: float, tokens: float) -> None:
    """Takes in the training loss of a step: sum and count."""
    self.epoch_nats += nats
    self.epoch_tokens += tokens

  def end_epoch(self) -> None:
    """Compares the training loss of the pass that has ended with the best."""
    nats = self.epoch_nats / self.epoch_tokens
    if self.best_epoch_nats is None or nats < self.best_epoch_nats:
      self.best_epoch_nats, self.flat = nats, 0
    else:
      self.flat += 1
    self.epoch_nats = self.epoch_tokens = 0.0

  def why_stop(self) -> str:
    """-> the reason, '' where there is none."""
    config = self.config
    if config.patience and self.waited >= config.patience:
      return f'the validation loss has not improved in {config.patience} evaluations'
    if config.flat_epochs and self.flat >= config.flat_epochs:
      return f'the training loss has not improved in {config.flat_epochs} epochs'
    return ''
