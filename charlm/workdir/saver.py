"""Writes the checkpoints of a run in a thread of its own, so that training does not wait for the disk."""
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from charlm.workdir import checkpoint, metrics
from charlm.workdir.names import Folder
from charlm.workdir.variables import Arrays


class Saver:
  """Writes checkpoints while the run goes on, one after the other, in the order in which they are handed over.

  One is written and one may wait: as a rule the checkpoint of a step whose weights were the best. Who hands over a
  third waits. After a failure nothing more is written. As a context manager it ends with all written.

  Attributes:
    step: of the newest checkpoint to resume from that is on the disk; 0 where there is none.
  """

  def __init__(self, workdir: Folder):
    self.step, self._workdir = 0, workdir
    self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=1)
    self._thread: threading.Thread | None = None
    self._error: BaseException | None = None

  def save(self, step: int, arrays: Arrays, state: Mapping[str, Any]) -> None:
    """Hands over the checkpoint of a step, as of `checkpoint.save`. Nobody may change the arrays and the state later.

    Raises:
      RunError: an earlier one could not be written.
    """
    self._hand_over(lambda: self._save(step, arrays, state))

  def keep_best(self, arrays: Arrays, state: Mapping[str, Any]) -> None:
    """The same for the weights with the lowest validation loss so far."""
    self._hand_over(lambda: checkpoint.write(self._workdir, checkpoint.BEST, arrays, state))

  def check(self) -> None:
    """Raises RunError where a checkpoint could not be written. Does not wait."""
    if self._error:
      raise self._error

  def settle(self) -> None:
    """Waits until all is written, or a failure is known."""
    self._jobs.join()

  def wait(self) -> None:
    """Waits until all is written. Raises RunError where something could not be."""
    self.settle()
    self.check()

  def __enter__(self) -> 'Saver':
    return self

  def __exit__(self, *error: object) -> None:
    self.settle()
    if self._thread:
      self._jobs.put(None)
      self._thread.join()
      self._thread = None

  def _hand_over(self, job: Callable[[], None]) -> None:
    self.check()
    if not self._thread:
      # A daemon, because a disk that never answers must not keep a process that was told twice to stop.
      self._thread = threading.Thread(target=self._work, name='charlm-saver', daemon=True)
      self._thread.start()
    self._jobs.put(job)

  def _work(self) -> None:
    while job := self._jobs.get():
      try:
        if not self._error:
          job()
      except BaseException as error:  # the run raises it
        self._error = error
      finally:
        job = None  # and its arrays, before the next is waited for
        self._jobs.task_done()
    self._jobs.task_done()

  def _save(self, step: int, arrays: Arrays, state: Mapping[str, Any]) -> None:
    metrics.sync(self._workdir)  # a checkpoint on the disk has the lines of its steps beside it
    checkpoint.save(self._workdir, step, arrays, state)
    self.step = step
