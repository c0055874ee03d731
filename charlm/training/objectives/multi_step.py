"""Multi-step loss: a share of the loss is that of stretches which the model reads on its own predictions.

Chiappa, Racaniere, Wierstra, Mohamed (2017), "Recurrent Environment Simulators"; generation/rollout.py draws the
stretches. A token is sampled, and no gradient goes through it, or the expected embedding is read, and it does.
Gradients also go through the states, back into the teacher-forced pass. Nothing is dropped in a stretch, as when the
model writes.
"""
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from charlm.generation import rollout
from charlm.network import losses
from charlm.network.dropout import Noise
from charlm.training.objectives.base import ForwardPass, Objective
from flags.training import TrainConfig


class Fed(NamedTuple):
  """What the model made of the stretches."""
  rollouts: rollout.Stretches
  own: tuple  # on its own predictions: logits [K, R, V], outputs of all layers [K, R, L H]
  teacher: tuple  # on the true tokens; () where nobody asked


@dataclasses.dataclass(frozen=True)
class SelfFeeding:
  """Runs the stretches of a pass. Terms of the loss share what comes of it, by `ForwardPass.once`.

  with_teacher: whether the same stretches are also run on the true tokens.
  """
  config: TrainConfig
  with_teacher: bool = False

  def __call__(self, forward: ForwardPass) -> Fed:
    """Draws what is read, and runs."""
    model, rows = forward.model, forward.batch.tokens.shape[0]
    stretches = rollout.cut(forward.batch, forward.outputs.states, forward.outputs.logits, self.config.multi_step)
    reads_own, numbers = draw(self.config, stretches.inputs.shape, rows, forward.progress, forward.noise)
    count = reads_own.shape[1] // rows
    initial = tf.nest.map_structure(lambda s: tf.tile(s, [count, 1]), model.initial_state(rows, forward.noise))
    # Autodiff takes the gradient of XLA's step; the native one has none.
    step = model.portable().stepper()

    def run(reads_own):
      return rollout.run(step, stretches, reads_own, numbers, initial=initial,
                         expected=self.config.multi_step_input == 'expected')

    own = run(reads_own)
    return Fed(stretches, own, run(tf.zeros_like(reads_own)) if self.with_teacher else ())


def draw(config: TrainConfig, shape: tuple[int, int], batch_size: int, progress: tf.Tensor,
         noise: Noise) -> tuple[tf.Tensor, tf.Tensor]:
  """What chance decides in the stretches of a step.

  Args:
    config: with the flags of --multi_step.
    shape: (K, P B).
    batch_size: B.
    progress: share of the run that is done, scalar.
    noise: of the step.

  Returns:
    [K, P B] bool, where the prediction is read; [K, P B] in [0, 1), what tokens are sampled by.
  """
  steps, count = shape

  def uniform(flag):
    numbers = noise.of_rows(lambda rows: tf.random.stateless_uniform(
        [steps, count // batch_size, rows], noise.key(flag), alg='philox'), batch_size, 2)
    return tf.reshape(numbers, [steps, count])

  return uniform('multi_step_mix') < mix(config, progress), uniform('multi_step_input')


def mix(config: TrainConfig, progress: tf.Tensor | float) -> tf.Tensor | float:
  """Probability that a step of a stretch reads the prediction, scalar."""
  return config.multi_step_mix * (progress if config.multi_step_schedule == 'linear' else 1.0)


class MultiStep(Objective):
  """Puts --multi_step_weight of the loss on the stretches, and takes as much from the loss on observed text."""

  def __init__(self, config: TrainConfig, feeding: SelfFeeding):
    self.weight, self.feeding = config.multi_step_weight, feeding

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`; reports `multi_step_nats`."""
    fed = forward.once(self.feeding)
    in_stretches = tf.reduce_sum(losses.nats(fed.own[0], fed.rollouts.targets) * fed.rollouts.weight)
    # The first token of the chunk has no prediction before it: it counts as observed in both shares.
    nats = tf.reduce_sum(forward.nats[:, 0]) + in_stretches
    return self.weight * (nats - tf.reduce_sum(forward.nats)), {'multi_step_nats': nats}
