"""Penalties on activations (Merity, McCann, Socher 2017, "Revisiting Activation Regularization for Language RNNs")."""
import tensorflow as tf

from charlm.training.objectives.base import ForwardPass, Objective


def mean_square(outputs: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
  """Args: outputs [T, B, n], weight [B, T]. Returns: the mean square over n, summed over tokens by weight; scalar."""
  return tf.reduce_sum(tf.reduce_mean(tf.square(outputs), -1) * tf.transpose(weight))


def mean_square_change(outputs: tf.Tensor, weight: tf.Tensor, starts: tf.Tensor | None = None) -> tf.Tensor:
  """`mean_square` of the change from one token to the next, h_t - h_(t-1).

  The first token of a chunk does not count, and tokens that start a document do not.

  Args:
    outputs: h, [T, B, n].
    weight: [B, T].
    starts: [B, T] bool, tokens that start a document; or None.

  Returns:
    A scalar, summed over tokens by weight.
  """
  weight = weight[:, 1:] if starts is None else tf.where(starts[:, 1:], 0.0, weight[:, 1:])
  return mean_square(outputs[1:] - outputs[:-1], weight)


class ActivationPenalty(Objective):
  """The mean square of the features that the logits are computed from, times `scale`."""

  def __init__(self, scale: float):
    self.scale = scale

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`."""
    return self.scale * mean_square(forward.outputs.features, forward.batch.weight), {}


class TemporalPenalty(Objective):
  """The mean square of the change of the last layer's outputs from token to token, times `scale`."""

  def __init__(self, scale: float):
    self.scale = scale

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`."""
    last = tf.nest.flatten(forward.outputs.states[-1])[0]
    return self.scale * mean_square_change(last, forward.batch.weight, forward.batch.starts), {}
