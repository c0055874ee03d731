"""A Learner of a small model for tests, and a step of it in parts."""
import tensorflow as tf

from charlm.training import distribution, learner
from flags.data import DataConfig
from flags.training import TrainConfig


def make(model, *, strategy='default', batch_size=1, longest=100, overlap=0, **train):
  """longest: tokens of the longest chunk. train: flags of training."""
  data = DataConfig(batch_size=batch_size, chunk_length=longest, chunk_overlap=overlap)
  spread = distribution.Distribution(distribution.make_strategy(strategy))
  return learner.Learner(model, TrainConfig(**train), data, spread)


def gradients(one, batch, carry, step=3, progress=0.0):
  """-> gradients of the model, what each objective learns from, sums; of one replica, before anything is applied."""
  parts, _ = one._replica_gradients(batch, carry, tf.constant(step, tf.int64), 0, progress)
  return parts


def objective(one, kind):
  """The Learner's objective of this class."""
  found, = (o for o in one.objectives if isinstance(o, kind))
  return found
