"""Memory of charlm-train, in a process of its own (Linux).

    python -m benchmarks.memory STEP,STEP,.. --workdir=DIR [flags of charlm-train]

trains and prints one JSON object, in megabytes resident: after all imports, at the peak, and after each STEP.
"""
import contextlib
import json
import os
import pathlib
import re
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from charlm.commands import train
from charlm.training import learner, trainer  # noqa: F401, loop because the command imports it late


def resident(kind):
  """'RSS' now, 'HWM' at the peak."""
  return int(re.search(rf'Vm{kind}:\s+(\d+)', pathlib.Path('/proc/self/status').read_text())[1]) * 1024 / 1e6


def main():
  steps = set(map(int, sys.argv.pop(1).split(',')))
  imported, after, count = resident('RSS'), {}, 0
  step = learner.Learner.step

  def watched(self, *args, **options):
    nonlocal count
    result = step(self, *args, **options)
    count += 1
    if count in steps:
      after[count] = resident('RSS')
    return result

  learner.Learner.step = watched
  with contextlib.redirect_stdout(sys.stderr):
    train.run()
  print(json.dumps({'imported': imported, 'peak': resident('HWM'), 'after': after}))


if __name__ == '__main__':
  main()
