"""What the machine gives this process: threads and memory."""
import contextlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from flags import machine


def requested_threads() -> int:
  """Threads that the user allows TensorFlow for one operation, or 0."""
  return int(os.environ.get('TF_NUM_INTRAOP_THREADS') or 0)


def threads() -> int:
  """Threads for a kernel: as many as the user allows, or one for each core that the process may use all of."""
  return requested_threads() or machine.cores()


def scalar(value: float, dtype: tf.DType = tf.float32) -> tf.Tensor:
  """A number as a tensor, for calls that are made again and again with other numbers.

  Of every Python number that it turns into a tensor outside of a graph, TensorFlow keeps the tensor (0.8 kB, TensorFlow
  2.21), for when it meets that number again; of NumPy's it does not.
  """
  return tf.constant(np.array(value, dtype.as_numpy_dtype))


def leave_cores_to_kernels() -> None:
  """Has XLA hand its own operations to one thread, where the kernels do most of the work and have their own threads.

  What XLA has left to do is short: handing it to several threads and waiting for them took 12% of a step at H 192 on
  two cores. To be called before TensorFlow begins to compute; later it changes nothing.
  """
  if not requested_threads():
    with contextlib.suppress(RuntimeError):  # it has begun
      tf.config.threading.set_intra_op_parallelism_threads(1)


def memory_bytes(groups: str | os.PathLike = '/sys/fs/cgroup', process: str | os.PathLike = '/proc/self/cgroup') -> int:
  """The memory that this process may use, in bytes: the machine's, or less where a control group has a limit.

  Args:
    groups: where control groups are mounted.
    process: the file that says in which this process is.
  """
  limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for folder in _groups(pathlib.Path(groups), pathlib.Path(process)):
    for name in 'memory.max', 'memory.limit_in_bytes':  # of version 2, of version 1
      with contextlib.suppress(OSError, ValueError):  # not there, or no limit: max
        limits.append(int((folder / name).read_text()))
  return min(limit for limit in limits if limit > 0)


def _groups(groups: pathlib.Path, process: pathlib.Path) -> Iterator[pathlib.Path]:
  """The control groups that count this process's memory: its own, and its parents, whose limits hold, too.

  A container may see its groups by the machine's names, and as folders only its own: then these are the roots.
  """
  roots = {'': [groups, groups / 'unified'], 'memory': [groups / 'memory']}  # by the controller that a line names
  yield from (root for several in roots.values() for root in several)
  with contextlib.suppress(OSError):
    for line in process.read_text(errors='surrogateescape').splitlines():
      controllers, _, path = line.partition(':')[2].partition(':')
      group = pathlib.PurePosixPath(path.lstrip('/'))
      for root in (root for name in controllers.split(',') for root in roots.get(name, ())):
        for each in (group, *group.parents):
          yield root / each
