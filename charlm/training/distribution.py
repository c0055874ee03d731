"""How the rows of a batch are spread over the devices of a tf.distribute strategy."""
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.training import tpu as tpu_system
from data_pipeline import streams


@functools.cache
def make_strategy(name: str, tpu: str = 'local') -> tf.distribute.Strategy:
  """default: one device. mirrored: all GPUs, or all logical CPU devices, of this machine.

  tpu: the cores of a TPU, which `tpu` names.

  There is one of each in a process: the collective operations of two MirroredStrategies get in each other's way.
  """
  if name == 'default':
    return tf.distribute.get_strategy()
  if name == 'tpu':
    return tpu_system.connect(tpu)
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
  return tf.distribute.MirroredStrategy([d.name for d in devices])


class Distribution:
  """Rows over replicas. A nest of tensors has rows in its first axis; each replica has as many of them."""

  def __init__(self, strategy: tf.distribute.Strategy):
    self.strategy, self.replicas = strategy, strategy.num_replicas_in_sync
    self.on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)

  def batches(self, make: Callable[[Any], tf.data.Dataset]) -> Any:
    """make(tf.distribute.InputContext) -> batches, iterated in step by all replicas."""
    return streams.distribute(self.strategy, make)

  def split(self, arrays: Sequence[np.ndarray], nest: Any) -> Any:
    """Arrays of all rows -> each replica's rows, packed as `nest`. The opposite of `join`."""
    if self.replicas == 1:
      return tf.nest.pack_sequence_as(nest, [tf.constant(a) for a in arrays])

    def share(context: Any) -> Any:
      rows = len(arrays[0]) // self.replicas
      first = context.replica_id_in_sync_group * rows
      return tf.nest.pack_sequence_as(nest, [tf.constant(a[first:first + rows]) for a in arrays])

    return self.strategy.experimental_distribute_values_from_function(share)

  def join(self, shares: Any) -> list[np.ndarray]:
    """Each replica's rows -> arrays of all rows."""
    local = [tf.nest.flatten(share) for share in self.values(shares)]
    return [np.concatenate([s.numpy() for s in tensor]) for tensor in zip(*local, strict=True)]

  def values(self, per_replica: Any) -> Sequence[Any]:
    """What each replica has."""
    return self.strategy.experimental_local_results(per_replica)
