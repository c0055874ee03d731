"""The learning rate over a run."""
import keras
import tensorflow as tf

from flags.training import TrainConfig


def learning_rate(config: TrainConfig, step: tf.Tensor, progress: tf.Tensor,
                  scale: tf.Tensor | float = 1.0) -> tf.Tensor:
  """The learning rate of one step.

  Args:
    step: steps done so far, scalar.
    progress: share of the run that is done, scalar float32 from 0 to 1.
    scale: what plateaus have left of it, scalar float32.

  Returns:
    The learning rate, scalar float32.
  """
  rate, last = config.learning_rate, config.final_fraction
  schedules = {
      'constant': lambda progress: tf.constant(rate),
      'cosine': keras.optimizers.schedules.CosineDecay(rate, 1.0, alpha=last),
      'linear': keras.optimizers.schedules.PolynomialDecay(rate, 1.0, rate * last),
      'plateau': lambda progress: rate * scale}
  rate = schedules[config.schedule](progress)
  if config.warmup_steps:
    rate *= tf.minimum(1.0, (tf.cast(step, tf.float32) + 1) / config.warmup_steps)
  return rate
