"""Penalties on activations (Merity, McCann, Socher 2017, "Revisiting Activation Regularization for Language RNNs")."""
import tensorflow as tf

from charlm.training.objectives.base import ForwardPass, Objective


def mean_square(outputs: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
  """outputs [T, B, n], weight [B, T] -> the mean square over n, summed over tokens."""
  return tf.reduce_sum(tf.reduce_mean(tf.square(outputs), -1) * tf.transpose(weight))


def mean_square_change(outputs: tf.Tensor, weight: tf.Tensor, starts: tf.Tensor | None = None) -> tf.Tensor:
  """The same of h_t - h_(t-1), for all tokens of a chunk but the first, and but those that start a document [B, T]."""
  weight = weight[:, 1:] if starts is None else tf.where(starts[:, 1:], 0.0, weight[:, 1:])
  return mean_square(outputs[1:] - outputs[:-1], weight)


class ActivationPenalty(Objective):
  """The mean square of what the logits are made of, times `scale`."""

  def __init__(self, scale: float):
    self.scale = scale

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`."""
    return self.scale * mean_square(forward.outputs.features, forward.batch.weight), {}


class TemporalPenalty(Objective):
  """The mean square of the change of the last layer's output from token to token, times `scale`."""

  def __init__(self, scale: float):
    self.scale = scale

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`."""
    last = tf.nest.flatten(forward.outputs.states[-1])[0]
    return self.scale * mean_square_change(last, forward.batch.weight, forward.batch.starts), {}
