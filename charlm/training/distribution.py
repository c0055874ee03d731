"""How the rows of a batch are spread over the devices of a tf.distribute strategy."""
import functools
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.training import rendezvous
from charlm.training import tpu as tpu_system
from charlm.training.cluster import Cluster
from charlm.training.workers import Workers
from data_pipeline import streams


def make_strategy(name: str, cluster: Cluster = Cluster(), tpu: str = 'local'  # noqa: B008, it is constant
                  ) -> tf.distribute.Strategy:
  """The strategy that a --strategy names.

  default: one device. mirrored: all GPUs, or all logical CPU devices, of this machine. multi_worker: the GPUs of all
  workers, or the CPU of each; before this process computes anything, and once all of them call it. A cluster of one is
  mirrored.

  tpu: the cores of a TPU, which the argument names.

  There is one of each in a process, however it is asked for: the collective operations of two MirroredStrategies get in
  each other's way.
  """
  if name == 'default':
    return tf.distribute.get_strategy()
  if cluster.count > 1:
    return _multi_worker(cluster)
  if name == 'tpu':
    return _tpu(tpu)
  return _mirrored()


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
  return tf.distribute.MirroredStrategy([d.name for d in devices])


_tpu = functools.cache(tpu_system.connect)


@functools.cache
def _multi_worker(cluster: Cluster) -> tf.distribute.Strategy:
  rendezvous.wait_for_all(cluster)
  resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
      tf.train.ClusterSpec({'worker': list(cluster.addresses)}), task_type='worker', task_id=cluster.index,
      num_accelerators={'GPU': len(tf.config.list_physical_devices('GPU'))}, rpc_layer='grpc')
  return _interruptible(lambda: tf.distribute.MultiWorkerMirroredStrategy(resolver))


def _interruptible(make: Callable[[], tf.distribute.Strategy]) -> tf.distribute.Strategy:
  """make(), which waits for other processes, in a thread; Ctrl-C and SIGTERM still end this one meanwhile."""
  made: list[tf.distribute.Strategy] = []
  failed: list[Exception] = []

  def run() -> None:
    try:
      made.append(make())
    except Exception as error:  # it is raised again in the thread that waits
      failed.append(error)

  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  while thread.is_alive():
    thread.join(0.2)
    signal.signal(signal.SIGTERM, before)  # TensorFlow takes it for itself, and goes on
  for error in failed:
    raise error
  return made[0]


class Distribution:
  """Rows over replicas. A nest of tensors has rows in its first axis; each replica has as many of them.

  Attributes:
    strategy: of TensorFlow.
    workers: the processes that the replicas are in; each has as many.
    replicas: how many there are, in all processes.
    on_tpu: whether they are cores of a TPU.
  """

  def __init__(self, strategy: tf.distribute.Strategy, workers: Workers | None = None):
    self.strategy, self.replicas = strategy, strategy.num_replicas_in_sync
    self.workers = workers or Workers()
    self._local = self.replicas // self.workers.count
    self.on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)

  def batches(self, make: Callable[[Any], tf.data.Dataset]) -> Any:
    """make(tf.distribute.InputContext) -> batches, iterated in step by all replicas."""
    return streams.distribute(self.strategy, make, self.workers.count, self.workers.index)

  def split(self, arrays: Sequence[np.ndarray], nest: Any) -> Any:
    """Arrays of all rows -> the rows of each replica of this process, packed as `nest`. The opposite of `join`."""
    rows = len(arrays[0]) // self.replicas

    def share(replica: int) -> Any:
      first = (self.workers.index * self._local + replica) * rows
      return tf.nest.pack_sequence_as(nest, [tf.constant(a[first:first + rows]) for a in arrays])

    if self._local == 1:
      return share(0)
    shares = [share(replica) for replica in range(self._local)]
    return self.strategy.experimental_distribute_values_from_function(
        lambda context: shares[context.replica_id_in_sync_group % self._local])

  def join(self, shares: Any) -> list[np.ndarray]:
    """The rows of each replica of this process -> arrays of all rows. All processes call it together."""
    local = [tf.nest.flatten(share) for share in self.values(shares)]
    return [self.workers.gather(np.concatenate([s.numpy() for s in tensor])) for tensor in zip(*local, strict=True)]

  def pairs(self, per_replica: Any) -> list[tuple]:
    """A pair of scalars of each replica of this process -> those of all replicas. All processes call it together."""
    pairs = list(self.values(per_replica))
    return pairs if self.workers.count == 1 else [*map(tuple, self.workers.gather(np.array(pairs)))]

  def values(self, per_replica: Any) -> Sequence[Any]:
    """What each replica of this process has."""
    return self.strategy.experimental_local_results(per_replica)
