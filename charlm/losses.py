"""What a model is trained on and judged by: nats per token, as sums and counts until the last moment."""
import tensorflow as tf


def nats(logits, targets):
  """logits [B, T, V], targets [B, T] -> -log p(target) [B, T] float32."""
  return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
