"""The worker, supervised: a call that hangs, or takes too much memory, ends with the worker."""
import json
import os
import pathlib
import select
import subprocess
import sys
import time
from typing import NamedTuple

from source_tree import ROOT

SECONDS = 60  # of one processor that a call may take
WAITED_SECONDS = 600  # by the clock, in which a call may take nothing: others may be at work, too
BYTES = 1 << 30  # that a call may add to the memory of the worker
RECYCLED_BYTES = 3 << 30  # compiled functions are never freed: a worker of this size makes room for a new one


class Outcome(NamedTuple):
  """What came of a call."""
  status: int | None  # None where it did not end as a command ends: `fault` says how
  fault: str
  out: bytes
  err: bytes
  seconds: float  # of one processor
  grown: int  # bytes, at most, that it added to the memory of the worker


class Worker:
  """A worker that is there when it is needed. Use as a context manager."""

  def __init__(self, folder):
    """folder: for what the worker keeps: its cache, its temporary files, and the streams of a call."""
    self.folder = pathlib.Path(folder)
    self._streams = [str(self.folder / name) for name in ('stdin', 'stdout', 'stderr')]
    self.places = {name: self.folder / name.lower() for name in ('XDG_CACHE_HOME', 'TMPDIR')}
    for place in self.places.values():
      place.mkdir()
    self._process = None

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._stop()

  def call(self, module, arguments, folder, stdin=b''):
    """Calls the command of a module -> its Outcome. See `worker.call`."""
    self._start()
    pathlib.Path(self._streams[0]).write_bytes(stdin)
    before = most = self._memory()
    began, used = time.monotonic(), self._seconds()
    self._process.stdin.write(json.dumps([module, arguments, str(folder), *self._streams]).encode() + b'\n')
    self._process.stdin.flush()
    fault = ''
    while not fault and not select.select([self._process.stdout], [], [], 0.02)[0]:
      most = max(most, self._memory())
      if self._seconds() - used > SECONDS or time.monotonic() - began > WAITED_SECONDS:
        fault = f'takes more than {SECONDS} s'
      elif most - before > BYTES:
        fault = f'takes more than {BYTES >> 20} MB of memory'
    line = b'' if fault else self._process.stdout.readline()
    seconds = self._seconds() - used
    if line:
      status, fault = json.loads(line)
      most = max(most, self._memory())
      if self._memory() > RECYCLED_BYTES:
        self._stop()
    else:
      status = None
      fault = fault or f'the process ended with {self._process.wait()}'
      self._stop()
    out, err = (pathlib.Path(path).read_bytes() for path in self._streams[1:])
    return Outcome(status, fault, out, err, seconds, most - before)

  def _memory(self):
    """Bytes of the worker that are in memory."""
    try:
      return int(pathlib.Path(f'/proc/{self._process.pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, IndexError):  # it is gone
      return 0

  def _seconds(self):
    """Seconds of one processor that the worker has taken."""
    stat = pathlib.Path(f'/proc/{self._process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf('SC_CLK_TCK')

  def _start(self):
    if not self._process:
      places = {name: str(path) for name, path in self.places.items()}
      paths = os.pathsep.join(map(str, [ROOT, ROOT / 'tests']))
      self._process = subprocess.Popen(
          [sys.executable, '-m', 'fuzz.worker'], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
          stderr=subprocess.DEVNULL, env={**os.environ, **places, 'PYTHONPATH': paths})

  def _stop(self):
    if self._process:
      self._process.kill()
      self._process.communicate()
      self._process = None
