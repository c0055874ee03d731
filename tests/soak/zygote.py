"""A process that has imported all of charlm-train, and forks for each run: no run has to import TensorFlow.

A fork is sound here, because there is one thread: TensorFlow makes its own when it first computes, in the fork. The run
says through a pipe what it is at, and this process kills it at the moment that was asked for.

Each line of standard input asks for a run; each line of standard output says how it ended, both in JSON (see `run`).
"""
import functools
import json
import os
import pathlib
import re
import signal
import statistics
import sys
import time

MARKS = {'start': b'B', 'step': b'S', 'evaluation': b'E', 'save': b'W', 'end': b'P'}  # lower case: it is over
SAMPLE = 500  # steps between two looks at the memory


def run(arguments, log, phase='', count=0, delay=0.0):
  """Runs charlm-train in a fork.

  Args:
    arguments: its flags.
    log: path of the file that takes what it writes.
    phase: of MARKS, in which it is killed; '' if it is not.
    count: of the phases of that name, the one in which it is.
    delay: seconds from the begin of the phase to the kill.

  Returns:
    status: the exit status, negative where a signal ended it. counts: of each phase. seconds: that each takes, the
    median. anonymous: the kilobytes of its own that it has, after each SAMPLE steps.
  """
  assert len(os.listdir('/proc/self/task')) == 1, 'a fork would not have the other threads'
  reading, writing = os.pipe()
  pid = os.fork()
  if not pid:
    os.close(reading)
    train(arguments, log, writing)
  os.close(writing)
  found = follow(pid, reading, (MARKS.get(phase), count, delay))
  os.close(reading)
  return {'status': os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), **found}


def train(arguments, log, marks):
  """What the fork does."""
  from charlm.commands import train
  from charlm.training import trainer
  from charlm.workdir import checkpoint, plot
  opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  for number in 1, 2:
    os.dup2(opened, number)
  sys.stdin, sys.stdout, sys.stderr = (  # new ones, as of a new process
      open(name, mode, encoding='utf-8', closefd=mode == 'r')  # noqa: SIM115
      for name, mode in ((os.devnull, 'r'), (1, 'w'), (2, 'w')))

  def marked(owner, name, mark):
    function = getattr(owner, name)

    @functools.wraps(function)
    def marks_it(*args, **options):
      os.write(marks, mark)
      try:
        return function(*args, **options)
      finally:
        os.write(marks, mark.lower())

    setattr(owner, name, marks_it)

  os.write(marks, MARKS['start'])
  for owner, name, phase in ((trainer.Trainer, '_train_call', 'step'), (trainer.Trainer, '_evaluate', 'evaluation'),
                             (checkpoint, 'write', 'save'), (plot, 'try_to_draw', 'end')):
    marked(owner, name, MARKS[phase])
  train.run(['charlm-train', *arguments])
  sys.exit()


def follow(pid, marks, moment):
  """Reads what a run is at, and kills it at its moment -> `run`'s counts, seconds, anonymous."""
  counts, begun, took, anonymous = dict.fromkeys(MARKS, 0), {}, {phase: [] for phase in MARKS}, []
  names = {mark: phase for phase, mark in MARKS.items()}
  while data := os.read(marks, 1):
    now, phase = time.perf_counter(), names[data.upper()]
    if data.isupper():
      counts[phase], begun[phase] = counts[phase] + 1, now
      if moment[:2] == (data, counts[phase]):
        time.sleep(moment[2])
        os.kill(pid, signal.SIGKILL)
    else:
      took[phase].append(now - begun[phase])
    if data == MARKS['step']:
      if counts['step'] == 1:
        took['start'].append(now - begun['start'])
      if counts['step'] % SAMPLE == 0:
        anonymous.append(of_its_own(pid))
  if 'end' in begun:
    took['end'] = [time.perf_counter() - begun['end']]  # until the process is gone
  return {'counts': counts, 'seconds': {phase: statistics.median(each) for phase, each in took.items() if each},
          'anonymous': anonymous}


def of_its_own(pid):
  """Kilobytes of a process that are in memory and not in files."""
  try:
    return int(re.search(r'RssAnon:\s+(\d+)', pathlib.Path(f'/proc/{pid}/status').read_text())[1])
  except (OSError, TypeError):  # it is gone
    return 0


def serve():
  """Answers requests until standard input ends."""
  from charlm.commands import console
  console._prepare_libraries()
  import matplotlib.figure  # noqa: F401
  with console.quietly():  # all else that a run imports
    from charlm.generation import session  # noqa: F401
    from charlm.network.backend import choice  # noqa: F401
    from charlm.training import checks, trainer  # noqa: F401
  for line in sys.stdin:
    print(json.dumps(run(**json.loads(line))), flush=True)


if __name__ == '__main__':
  serve()
