"""Two sides measured in turn: processes that stay alive, each at work only while it is asked.

    run.py  -- ["train", {"units": 512, ..}] ->  charlm_tasks.py   makes the task, warms it up: count, first_seconds
            -- ["train", {"units": 512, ..}] ->  charlm_tasks.py   runs it once: seconds
            -- ["train", {"units": 512, ..}] ->  torch_tasks.py    ..

A side may be another Python, so this needs nothing but the standard library.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[1]


def timed(function):
  """-> seconds."""
  began = time.perf_counter()
  function()
  return time.perf_counter() - began


def serve(tasks):
  """Answers standard input until it ends. tasks: {name: (**options) -> (run, what a run gets through)}."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print is no answer
  made = {}
  for line in sys.stdin:
    if line in made:
      answer = {'seconds': timed(made[line])}
    else:
      name, options = json.loads(line)
      made[line], count = tasks[name](**options)
      answer = {'count': count, 'first_seconds': timed(made[line])}
    print(json.dumps(answer), file=answers, flush=True)


@contextlib.contextmanager
def side(python, module, threads=None):
  """A process that serves the tasks of a module -> ask: task, options -> answer."""
  own = {f'{name}_THREADS': str(threads) for name in ('TF_NUM_INTEROP', 'TF_NUM_INTRAOP', 'OMP_NUM') if threads}
  with tempfile.TemporaryFile('w+') as complaints, subprocess.Popen(
      [python, '-m', module], cwd=ROOT, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', **own}, text=True,
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints) as process:

    def ask(task, options):
      print(json.dumps([task, options]), file=process.stdin, flush=True)
      answer = process.stdout.readline()
      if not answer:
        complaints.seek(0)
        raise RuntimeError(f'{python} -m {module} ended at {task} {options}: {complaints.read()}')
      return json.loads(answer)

    yield ask


@dataclasses.dataclass
class Work:
  """What a side does again and again, and how long it took."""
  ask: Callable  # of its side
  task: str
  options: dict = dataclasses.field(default_factory=dict)
  count: float = 0  # what a run gets through: tokens, megabytes, floating point operations
  first_seconds: float = 0  # of the first run, which compiles and is no measure of speed
  seconds: list = dataclasses.field(default_factory=list)

  def start(self):
    answer = self.ask(self.task, self.options)
    self.count, self.first_seconds = answer['count'], answer['first_seconds']

  def repeat(self):
    self.seconds.append(self.ask(self.task, self.options)['seconds'])


def alternate(works, repeats, note):
  """Warms up all works, then runs each in turn, again and again. note: str -> None, shows progress."""
  for i, work in enumerate(works, 1):
    note(f'starts {work.task} ({i} of {len(works)})')
    work.start()
  for i in range(1, repeats + 1):
    for j, work in enumerate(works, 1):
      note(f'repeat {i} of {repeats}, {work.task} ({j} of {len(works)})')
      work.repeat()
