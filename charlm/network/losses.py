"""What a model is trained on and judged by: nats per token, as sums and counts until the last moment."""
import tensorflow as tf


def nats(logits, targets):
  """logits [B, T, V], targets [B, T] -> -log p(target) [B, T] float32."""
  return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))


def activation_penalty(outputs, weight):
  """Merity, McCann, Socher 2017: outputs [T, B, n], weight [B, T] -> the mean square over n, summed over tokens."""
  return tf.reduce_sum(tf.reduce_mean(tf.square(outputs), -1) * tf.transpose(weight))


def temporal_penalty(outputs, weight, starts=None):
  """The same of h_t - h_(t-1), for all tokens of the chunk but the first, and those that start a document [B, T]."""
  weight = weight[:, 1:] if starts is None else tf.where(starts[:, 1:], 0.0, weight[:, 1:])
  return activation_penalty(outputs[1:] - outputs[:-1], weight)
