"""Keras optimizers by name, the learning rate over a run, and clipping."""
import inspect

import keras
import tensorflow as tf

from charlm.config import TrainConfig, UserError


def optimizers():
  """{lower-case name: class} of the Keras optimizers that a learning rate is enough for."""
  classes = {name.lower(): c for name, c in vars(keras.optimizers).items() if isinstance(c, type)}
  # Muon asks each variable for the path that Keras layers give theirs.
  return {name: c for name, c in classes.items() if name != 'muon' and 'learning_rate' in _parameters(c)
          and all(p.default is not p.empty for p in _parameters(c).values() if p.kind != p.VAR_KEYWORD)}


def _parameters(optimizer_class):
  return inspect.signature(optimizer_class).parameters


def make_optimizer(config: TrainConfig):
  """The Keras optimizer that --optimizer names. Raises UserError for another name."""
  known = optimizers()
  if config.optimizer.lower() not in known:
    raise UserError(f'--optimizer={config.optimizer}: expected one of {", ".join(sorted(known))}')
  # Named, because Keras numbers the names of further optimizers in a process, and checkpoints hold them.
  return known[config.optimizer.lower()](name='optimizer')


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
