"""What the processes of a run tell each other between steps: the chief's decisions, and what each of them has.

All of them make the same calls in the same order, as they take the same steps. Where there is one process, nothing is
told and every call returns what it was given.
"""
import contextlib
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from charlm.network import runtime
from charlm.training.cluster import Cluster
from charlm.training.watchdog import Watchdog
from charlm.workdir import checkpoint
from charlm.workdir.names import Folder
from charlm.workdir.variables import Arrays
from flags.errors import RunError

GROUP = 1 << 20  # the key of the group of all workers; TensorFlow counts those of its strategies from 1
SHORT = 480  # bytes of a message that is told in one round
# What TensorFlow raises where another process, or the network to it, is gone.
GONE = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError, tf.errors.InternalError)


class Workers:
  """The processes of a run.

  Attributes:
    index: of this process; the chief's is 0.
    count: how many there are.
    asked: whether one of them has been asked to stop, as far as all of them have heard.
  """

  def __init__(self, cluster: Cluster = Cluster(), watchdog: Watchdog | None = None):  # noqa: B008, it is constant
    """watchdog: ends this process where it waits for the others in vain."""
    self.index, self.count, self.asked = cluster.index, cluster.count, False
    self._watchdog, self._calls = watchdog or Watchdog(0), 0

  @property
  def is_chief(self) -> bool:
    return not self.index

  def gather(self, rows: np.ndarray) -> np.ndarray:
    """Rows [n, ...] of this process -> those of all processes, [count n, ...], in the order of the workers."""
    if self.count == 1:
      return rows
    self._calls += 1
    with self.waiting(), tf.device('/CPU:0'):
      gathered = tf.raw_ops.CollectiveGatherV2(
          input=tf.constant(rows), group_size=self.count, group_key=GROUP,
          instance_key=runtime.scalar(self._calls, tf.int32), ordering_token=[], communication_hint='ring').numpy()
    return gathered

  def waiting(self) -> contextlib.AbstractContextManager:
    """Goes around whatever waits for the others, so that it does not do so for ever."""
    return self._watchdog.waiting()

  def exchange(self, message: Any) -> list[Any]:
    """What each process says, in JSON -> what all of them have said, in the order of the workers."""
    if self.count == 1:
      return [message]
    data = json.dumps(message).encode()
    framed = self._bytes(len(data).to_bytes(8, 'little') + data[:SHORT], SHORT + 8)
    sizes = [int.from_bytes(frame[:8], 'little') for frame in framed]
    texts = [frame[8:] for frame in framed] if max(sizes) <= SHORT else self._bytes(data, max(sizes))
    return [json.loads(text[:size]) for text, size in zip(texts, sizes, strict=True)]

  def _bytes(self, data: bytes, size: int) -> list[bytes]:
    """Bytes of this process -> those of all, with zeros up to a size."""
    size = -(-size // 4) * 4
    rows = self.gather(np.frombuffer(data.ljust(size, b'\0'), np.int32)[None])
    return [row.tobytes() for row in rows]

  def of_chief(self, make: Callable[[], Any]) -> Any:
    """What `make` returns in the chief, which alone calls it; values of JSON."""
    return self.exchange(make() if self.is_chief else None)[0]

  def decide(self, make: Callable[[bool], Any], interrupted: bool = False) -> Any:
    """What the chief decides, handed on to all.

    Args:
      make: whether the run was asked to stop -> the decision, in JSON. The chief alone calls it.
      interrupted: whether this process was asked to. The chief hears of the others with the decision after this one.
    """
    decided = make(self.asked or interrupted) if self.is_chief else None
    said = self.exchange([interrupted, decided])
    self.asked |= any(asked for asked, _ in said)
    return said[0][1]

  def check_same(self, what: str, find: Callable[[], Mapping[str, np.ndarray]], remedy: str) -> None:
    """Raises RunError where not all workers hold the same arrays, bit for bit.

    Args:
      what: they are, in words.
      find: returns those of this process.
      remedy: what to look after.
    """
    if self.count == 1:
      return
    digest, arrays = hashlib.sha256(), find()
    for name in sorted(arrays):
      digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}'.encode())
      digest.update(np.ascontiguousarray(arrays[name]).data)
    said = self.exchange(digest.hexdigest())
    others = [f'{worker}' for worker, own in enumerate(said) if own != said[0]]
    if others:
      raise RunError(f'--strategy=multi_worker: worker {", ".join(others)} has other {what} than the chief '
                     f'({said[int(others[0])][:8]}..., {said[0][:8]}...). {remedy}')

  @contextlib.contextmanager
  def failures(self) -> Iterator[None]:
    """Turns what TensorFlow says where another worker is gone into one line: a RunError."""
    try:
      yield
    except GONE as error:
      if self.count == 1:
        raise
      raise RunError(f'--strategy=multi_worker: {self._who(str(error))} does not answer any more: it has ended, or '
                     'hangs, or the network is cut. What it has said last is in its own output. Start all workers '
                     'again; they go on from the last checkpoint') from error

  def _who(self, said: str) -> str:
    """Which other worker an error is about, in words."""
    named = {int(n) for n in re.findall(r'/job:worker(?:/replica:0)?/task:(\d+)', said)}
    others = sorted((named if self.count > 2 else {0, 1}) - {self.index})  # where there are two, it goes without saying
    return f'worker {others[0]} (of 0 to {self.count - 1})' if len(others) == 1 else 'another worker'


def newest_checkpoint(workdir: Folder, workers: Workers) -> tuple[Arrays, dict[str, Any]] | None:
  """The newest whole checkpoint, as of `checkpoint.newest`. The chief finds it; the others read the same."""
  found = checkpoint.newest(workdir, set_aside=True) if workers.is_chief else None
  name = workers.of_chief(lambda: found and checkpoint.saved(workdir)[0].name)
  if workers.is_chief or name is None:
    return found
  return checkpoint.read(pathlib.Path(workdir, 'checkpoints', name))
