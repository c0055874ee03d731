"""The loss of each target, in nats. Callers keep sums and counts of it, and divide last."""
import tensorflow as tf


def nats(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
  """The cross-entropy of each target.

  Args:
    logits: [.., V].
    targets: [..] int32, ids of tokens.

  Returns:
    -log p(target), [..] float32, in nats.
  """
  return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
