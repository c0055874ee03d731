"""What a term of the training loss is given, and what it gives back."""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from charlm.network.dropout import Noise
from charlm.network.model import LanguageModel, Outputs
from data_pipeline.streams import Batch

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class ForwardPass:
  """A chunk of every row, and what the model made of it."""
  model: LanguageModel
  batch: Batch
  outputs: Outputs
  nats: tf.Tensor  # [B, T] -log p(target), 0 where a target does not count
  noise: Noise
  progress: tf.Tensor  # share of the run that is done, scalar
  _shared: dict = dataclasses.field(default_factory=dict)

  def once(self, make: Callable[['ForwardPass'], T]) -> T:
    """make(self), computed once for all the terms that ask for it."""
    if make not in self._shared:
      self._shared[make] = make(self)
    return self._shared[make]


class Objective:
  """A term of the loss. It may learn weights of its own beside the model's."""

  @property
  def variables(self) -> Sequence[tf.Variable]:
    """All that its own learning depends on and changes."""
    return []

  def before_step(self) -> None:
    """Called in each step before anything else is computed."""

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """-> its part of the loss in nats, summed over the targets at hand; and sums to report."""
    raise NotImplementedError

  def own_gradients(self, forward: ForwardPass) -> Any:
    """-> what its own weights learn from: a nest of tensors, which are then summed over all replicas."""
    return ()

  def learn(self, summed: Any, replicas: int) -> dict[str, tf.Tensor]:
    """Takes in what `own_gradients` gave, summed; in each replica alike. -> what it has to report."""
    return {}
