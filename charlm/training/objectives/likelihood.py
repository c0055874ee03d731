"""The main objective: how likely the true text is."""
import tensorflow as tf

from charlm.training.objectives.base import ForwardPass, Objective


class Likelihood(Objective):
  """The negative log-likelihood: the sum of -log p(target)."""
  reports = 'nats', 'tokens'

  def __call__(self, forward: ForwardPass) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """As `Objective.__call__`."""
    nats = tf.reduce_sum(forward.nats)
    return nats, {'nats': nats, 'tokens': tf.reduce_sum(forward.batch.weight)}
