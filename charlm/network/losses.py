"""What a model is trained on and judged by: nats per token, as sums and counts until the last moment."""
import tensorflow as tf


def nats(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
  """logits [.., V], targets [..] -> -log p(target) [..] float32."""
  return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
