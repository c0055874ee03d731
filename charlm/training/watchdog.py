"""Ends a process that waits for others which do not come.

TensorFlow notices within seconds where another process has ended or answers no more. It waits for ever for one that
is alive and does not take part, and at the start for one that never comes.
"""
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

LAUNCHED = 'CHARLM_LAUNCHED'  # is in the environment of processes that --local_workers has started


class Watchdog:
  """A thread that ends this process once it has waited too long. Use as a context manager.

  It also passes on that the process that has started this one is gone, as SIGTERM.
  """

  def __init__(self, seconds: float, index: int = 0):
    """seconds: of --worker_timeout; 0 never ends anything. index: of this worker."""
    self.seconds, self._index = seconds, index
    self._since: float | None = None  # when this process began to wait
    self._patient, self._over = False, threading.Event()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Within it, this process waits for others."""
    self._since = time.monotonic()
    try:
      yield
    finally:
      self._since = None

  @contextlib.contextmanager
  def patient(self) -> Iterator[None]:
    """Within it, others may take as long as they like if only they are alive, which TensorFlow watches."""
    self._patient = True
    try:
      yield
    finally:
      self._patient = False

  def __enter__(self) -> 'Watchdog':
    if self.seconds or LAUNCHED in os.environ:
      threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
    return self

  def __exit__(self, *error: object) -> None:
    self._over.set()

  def _watch(self, parent: int) -> None:
    orphaned = False
    while not self._over.wait(1.0):
      since = self._since
      if self.seconds and since and not self._patient and time.monotonic() - since > self.seconds:
        return self._end()
      if not orphaned and LAUNCHED in os.environ and os.getppid() != parent:
        orphaned = True
        os.kill(os.getpid(), signal.SIGTERM)

  def _end(self) -> None:
    """Ends the process, whatever it waits for."""
    print(f'charlm-train: --worker_timeout={self.seconds:g}: worker {self._index} has waited this long for the others, '
          'in vain. Start all workers again; they go on from the last checkpoint', file=sys.stderr, flush=True)
    os._exit(1)
