"""The process that runs are forked from; and the table at the end."""
import json
import os
import random
import subprocess
import sys

import pytest

from source_tree import ROOT


class Zygote:
  """Starts runs of charlm-train that end by themselves or are killed (see `zygote.run`). A context manager."""

  def __init__(self, folder):
    """folder: for its cache and for what the runs write to their terminal."""
    self.log = folder / 'log'
    # One thread each: a fork has no other, and the bits do not depend on how many cores are free.
    threads = dict.fromkeys(('OPENBLAS_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS'), '1')
    paths = os.pathsep.join(map(str, [ROOT, ROOT / 'tests']))
    self._process = subprocess.Popen(
        [sys.executable, '-m', 'soak.zygote'], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **threads, 'PYTHONPATH': paths, 'XDG_CACHE_HOME': str(folder / 'cache')})

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()

  def run(self, arguments, phase='', count=0, delay=0.0):
    """As `zygote.run`; fails where the run does."""
    self.log.unlink(missing_ok=True)
    request = dict(arguments=arguments, log=str(self.log), phase=phase, count=count, delay=delay)
    self._process.stdin.write(json.dumps(request) + '\n')
    self._process.stdin.flush()
    found = json.loads(self._process.stdout.readline())
    assert found['status'] in (0, -9), (found, self.log.read_text())
    return found


@pytest.fixture(scope='session')
def zygote(tmp_path_factory):
  with Zygote(tmp_path_factory.mktemp('soak')) as one:
    yield one


@pytest.fixture
def chance(record_property):
  """Random numbers, the same each time; new ones where SOAK asks for a long run. SOAK_SEED brings them back."""
  asked = 'SOAK' in os.environ
  seed = int(os.environ.get('SOAK_SEED') or (random.randrange(2**32) if asked else 0))
  print(f'SOAK_SEED={seed}')  # which pytest shows where the test fails
  return random.Random(seed)


@pytest.fixture
def report(request):
  """Adds a line to the table at the end."""
  return lambda *cells: request.node.user_properties.append(('soak', cells))


def pytest_terminal_summary(terminalreporter):
  """The table of what was killed and what came of it."""
  lines = [cells for reports in terminalreporter.stats.values() for one in reports
           if getattr(one, 'when', '') == 'call' for name, cells in one.user_properties if name == 'soak']
  if lines:
    terminalreporter.write_line('')
    for cells in ['what', 'result'], ['---', '---'], *lines:
      terminalreporter.write_line(f'| {" | ".join(map(str, cells))} |')
