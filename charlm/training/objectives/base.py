"""Objectives, the terms of the training loss: what one is given, and what it gives back."""
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
  """A chunk of every row, and what the model made of it: what objectives are computed from."""
  model: LanguageModel
  batch: Batch
  outputs: Outputs
  nats: tf.Tensor  # [B, T] -log p(target), 0 where a target does not count
  noise: Noise
  progress: tf.Tensor  # share of the run that is done, scalar
  _shared: dict = dataclasses.field(default_factory=dict)

  def once(self, make: Callable[['ForwardPass'], T]) -> T:
    """make(self), computed once for all the objectives that ask for it with an equal `make`."""
    if make not in self._shared:
      self._shared[make] = make(self)
    return self._shared[make]


class Objective:
  """A term of the loss. It may have weights of its own, which learn beside the model's.

  In each training step the learner calls `before_step`, then the objective itself and `own_gradients` in every replica,
  and at last `learn` with the sums over all replicas.

  Attributes:
    reports: the names of what it reports.
  """
  reports: Sequence[str] = ()

  @property
  def variables(self) -> Sequence[tf.Variable]:
    """All that its own learning depends on and changes; checkpoints hold them."""
    return []

  def before_step(self) -> None:
    """Called in each step before anything else is computed."""

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Computes the term.

    Returns:
      Its part of the loss in nats, summed over the targets of this replica; and {name: sum over them} to report.
    """
    raise NotImplementedError

  def own_gradients(self, forward: ForwardPass) -> Any:
    """-> what its own weights learn from: a nest of tensors, which the learner adds up over all replicas."""
    return ()

  def learn(self, summed: Any) -> dict[str, tf.Tensor]:
    """Changes its own weights, in each replica in the same way.

    Args:
      summed: what `own_gradients` returned, added up over all replicas.

    Returns:
      {name: value} to report.
    """
    return {}
