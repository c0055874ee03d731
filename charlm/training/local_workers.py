"""Starts the workers of a run as processes of this machine, and ends them together. Imports no TensorFlow."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from charlm.training.watchdog import LAUNCHED
from flags import machine, typed
from flags.config import ESCAPED
from flags.errors import RunError, UserError

# The first argument is the path of this process: modules of the same name in the current folder have no say.
PROGRAM = ('import json, sys\n'
           'sys.path[:] = json.loads(sys.argv.pop(1))\n'
           'from charlm.commands import train; train.run(["charlm-train", *sys.argv[1:]])')
INTERRUPTED = 130  # the exit status of a worker that has saved, since it was asked to stop
GRACE = {INTERRUPTED: 60.0}  # seconds that the others have to end by themselves after one has ended with a status ...
SHORT_GRACE = 0.2  # ... and after any other but 0, as they could only say that one is gone
COMPLAINT = 'charlm-train: '  # what the line begins with that says why a worker has failed


def run(count: int, given: Mapping[str, Any]) -> int:
  """Trains in several processes, and waits for them. Signals that ask for a stop are passed on.

  Args:
    count: how many.
    given: the flags of charlm-train, {name: value}.

  Returns:
    The exit status: that of the chief where it failed first, 130 where all were asked to stop and have saved, or 0.

  Raises:
    UserError, RunError: as another worker did that failed first; RunError where one was killed.
  """
  addresses = [f'127.0.0.1:{port}' for port in free_ports(count)]
  command = [sys.executable, '-c', PROGRAM, json.dumps(sys.path), *arguments(given)]
  sys.stdout.flush()
  workers: list[subprocess.Popen] = []
  try:
    for index in range(count):
      workers.append(_start(command, environment(addresses, index), apart=index > 0))
    complaints: dict[int, str] = {}
    speakers = [threading.Thread(target=_pass_on, args=(worker.stderr, index, complaints))
                for index, worker in enumerate(workers) if worker.stderr]
    for speaker in speakers:
      speaker.start()
    with _passing_on_signals(workers):
      failed = supervise(workers)
    for speaker in speakers:
      speaker.join()
    return _told(workers[failed].returncode, failed, complaints)
  finally:
    for worker in workers:
      worker.kill()
      worker.wait()


def free_ports(count: int) -> list[int]:
  """Ports of this machine that nothing uses."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
      each.bind(('127.0.0.1', 0))
    return [each.getsockname()[1] for each in sockets]


def arguments(given: Mapping[str, Any]) -> list[str]:
  """Flags as they are typed. given: {name: value}, the values as `flags.parse` returns them."""
  def text(name: str, value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else typed.escaped(value) if name in ESCAPED else str(value)

  return [f'--{name}={text(name, value)}' for name, value in given.items()]


def environment(addresses: Sequence[str], index: int) -> dict[str, str]:
  """What a worker finds in its environment: the others, and its share of the cores."""
  cluster = {'cluster': {'worker': list(addresses)}, 'task': {'type': 'worker', 'index': index}}
  return {'TF_NUM_INTRAOP_THREADS': str(max(1, machine.cores() // len(addresses))), **os.environ,
          'TF_CONFIG': json.dumps(cluster), LAUNCHED: '1'}


def _start(command: Sequence[str], environ: Mapping[str, str], apart: bool) -> subprocess.Popen:
  """A worker, in a session of its own: Ctrl-C is for this process, which passes it on. apart: not the chief."""
  return subprocess.Popen(command, env=environ, start_new_session=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL if apart else None, stderr=subprocess.PIPE if apart else None)


def _pass_on(lines: IO[bytes], index: int, complaints: dict[int, str]) -> None:
  """Prints what a worker says, but keeps why it has failed: of several that fail, one alone has something to tell."""
  with lines:
    for line in lines:
      text = line.decode('utf-8', 'replace').rstrip('\n')
      if text.startswith(COMPLAINT):
        complaints[index] = text.removeprefix(COMPLAINT)
      else:
        print(f'worker {index}: {text}', file=sys.stderr)


def _told(status: int, worker: int, complaints: Mapping[int, str]) -> int:
  """The exit status of a worker; raises what it has failed with, unless it has said so itself."""
  if status < 0:
    raise RunError(f'--local_workers: worker {worker} was killed ({_name(-status)}), and the others were ended. The '
                   'same command goes on from the last checkpoint')
  if worker and status in (1, 2):
    why = complaints.get(worker, f'has ended with status {status}')
    raise (RunError if status == 1 else UserError)(f'--local_workers: worker {worker}: {why}')
  return status


@contextlib.contextmanager
def _passing_on_signals(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
  def pass_on(number: int, frame: Any) -> None:
    for worker in workers:
      worker.send_signal(number)

  numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
  before = {number: signal.signal(number, pass_on) for number in numbers}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def supervise(workers: Sequence[subprocess.Popen]) -> int:
  """Waits until all have ended; kills those that have not, some time after one has failed.

  Returns:
    The first that failed; 0, the chief, where none has.
  """
  failed, deadline = None, float('inf')
  while time.monotonic() < deadline:
    statuses = [worker.poll() for worker in workers]
    if failed is None and any(statuses):
      failed = next(index for index, status in enumerate(statuses) if status)
      deadline = time.monotonic() + GRACE.get(workers[failed].returncode, SHORT_GRACE)
    if None not in statuses:
      break
    time.sleep(0.05)
  for worker in workers:
    worker.kill()  # SIGKILL, which one that is stopped cannot put off
    worker.wait()
  return failed or 0


def _name(number: int) -> str:
  """A signal by its name."""
  try:
    return signal.Signals(number).name
  except ValueError:
    return f'signal {number}'
