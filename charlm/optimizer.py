"""Keras optimizers by name, the learning rate over a run, and clipping."""
import keras
import tensorflow as tf

from charlm.config import TrainConfig, UserError


def make_optimizer(config: TrainConfig):
  """The Keras optimizer that --optimizer names. Raises UserError for a name that Keras lacks."""
  try:
    return keras.optimizers.get({'class_name': config.optimizer, 'config': {}})
  except (ValueError, TypeError) as error:
    names = sorted(n.lower() for n in dir(keras.optimizers) if isinstance(getattr(keras.optimizers, n), type)
                   and n not in ('Optimizer', 'LossScaleOptimizer'))
    raise UserError(f'--optimizer={config.optimizer}: expected one of {", ".join(names)}') from error


def learning_rate(config: TrainConfig, step, progress):
  """The learning rate of one step.

  Args:
    step: steps done so far, scalar.
    progress: share of the run that is done, scalar float32 from 0 to 1.
  """
  rate = tf.constant(config.learning_rate)
  if config.schedule == 'cosine':
    cosine = keras.optimizers.schedules.CosineDecay(config.learning_rate, decay_steps=1.0,
                                                    alpha=config.final_fraction)
    rate = cosine(progress)
  if config.warmup_steps:
    rate *= tf.minimum(1.0, (tf.cast(step, tf.float32) + 1) / config.warmup_steps)
  return rate


def clip(gradients, limit):
  """-> gradients scaled to a global norm of at most `limit` (0: unchanged), and their norm before that."""
  norm = tf.linalg.global_norm(gradients)
  if limit:
    scale = tf.minimum(1.0, limit / norm)  # a norm that is not a number stays one, and stops the run
    gradients = [g * scale for g in gradients]
  return gradients, norm
