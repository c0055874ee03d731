"""Multi-step loss: a share of the loss is that of rollouts, in which the model reads its own predictions.

Chiappa, Racaniere, Wierstra, Mohamed (2017), "Recurrent Environment Simulators". `generation/rollout.py` says how a
chunk is divided into rollouts, and where gradients go.
"""
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from charlm.generation import rollout
from charlm.network import losses
from charlm.network.dropout import Noise
from charlm.training.objectives.base import ForwardPass, Objective
from flags.training import TrainConfig


class RolloutOutputs(NamedTuple):
  """What the model made of the rollouts: each time logits [K, R, V], and outputs of all layers [K, R, L H]."""
  rollouts: rollout.Rollouts
  self_fed: tuple  # it read its own predictions
  teacher_forced: tuple  # it read the true tokens; () where no objective asked


@dataclasses.dataclass(frozen=True)
class SelfFeeding:
  """Runs the rollouts of a chunk. All objectives of a step share the result, by `ForwardPass.once`.

  Attributes:
    config: with the flags of --multi_step.
    with_teacher: whether the same rollouts are also run on the true tokens.
  """
  config: TrainConfig
  with_teacher: bool = False

  def __call__(self, forward: ForwardPass) -> RolloutOutputs:
    """Draws where the model reads its own predictions, and runs the rollouts."""
    model, rows = forward.model, forward.batch.tokens.shape[0]
    rollouts = rollout.plan(forward.batch, forward.outputs.states, forward.outputs.logits, self.config.multi_step)
    self_fed, numbers = draw(self.config, rollouts.inputs.shape, rows, forward.progress, forward.noise)
    count = self_fed.shape[1] // rows
    initial = tf.nest.map_structure(lambda s: tf.tile(s, [count, 1]), model.initial_state(rows, forward.noise))
    # Autodiff takes the gradient of XLA's step; the native one has none.
    step = model.portable().stepper()

    def run(reads_prediction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      return rollout.run(step, rollouts, reads_prediction, numbers, initial=initial,
                         expected=self.config.multi_step_input == 'expected')

    free = run(self_fed)
    return RolloutOutputs(rollouts, free, run(tf.zeros_like(self_fed)) if self.with_teacher else ())


def draw(config: TrainConfig, shape: tuple[int, int], batch_size: int, progress: tf.Tensor,
         noise: Noise) -> tuple[tf.Tensor, tf.Tensor]:
  """Draws the random choices in the rollouts of a training step.

  Args:
    config: with the flags of --multi_step.
    shape: (K, P B).
    batch_size: B.
    progress: share of the run that is done, scalar.
    noise: of the step.

  Returns:
    [K, P B] bool, where the model reads its prediction; and [K, P B] in [0, 1), what tokens are sampled by.
  """
  steps, count = shape

  def uniform(flag: str) -> tf.Tensor:
    numbers = noise.of_rows(lambda rows: tf.random.stateless_uniform(
        [steps, count // batch_size, rows], noise.key(flag), alg='philox'), batch_size, 2)
    return tf.reshape(numbers, [steps, count])

  return uniform('multi_step_mix') < mix(config, progress), uniform('multi_step_input')


def mix(config: TrainConfig, progress: tf.Tensor | float) -> tf.Tensor | float:
  """The probability that a step of a rollout reads the prediction, scalar. progress: as in `draw`."""
  return config.multi_step_mix * (progress if config.multi_step_schedule == 'linear' else 1.0)


class MultiStep(Objective):
  """Moves a share of the loss, --multi_step_weight, from the teacher-forced pass to the rollouts."""
  reports = 'multi_step_nats',

  def __init__(self, config: TrainConfig, feeding: SelfFeeding):
    self.weight, self.feeding = config.multi_step_weight, feeding

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`."""
    made = forward.once(self.feeding)
    logits, _ = made.self_fed
    in_rollouts = tf.reduce_sum(losses.nats(logits, made.rollouts.targets) * made.rollouts.weight)
    # No rollout predicts the first target of the chunk: its teacher-forced loss counts in both shares.
    nats = tf.reduce_sum(forward.nats[:, 0]) + in_rollouts
    return self.weight * (nats - tf.reduce_sum(forward.nats)), {'multi_step_nats': nats}
