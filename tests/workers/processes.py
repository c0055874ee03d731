"""Workers as processes of this machine, as people start them by hand."""
import contextlib
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

import runs
from charlm.training import local_workers
from charlm.training.watchdog import LAUNCHED
from charlm.workdir import checkpoint

TESTS = pathlib.Path(__file__).parents[1]
SECONDS = 300  # that a test waits for processes, which share the cores with others


def environment(addresses, index):
  """Of one worker."""
  paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
  return {**local_workers.environment(addresses, index), 'PYTHONPATH': paths, 'TF_NUM_INTRAOP_THREADS': '1'}


def of_all(index, command):
  """The command of a worker, where all have the same."""
  return command


@contextlib.contextmanager
def started(command, count, of_worker=of_all, hosts=('127.0.0.1',)):
  """The processes of a command in so many workers; what is left of them ends with the context.

  of_worker: (index, command) -> the command of that worker. hosts: of the workers, in turn.
  """
  addresses = [f'{hosts[index % len(hosts)]}:{port}' for index, port in enumerate(local_workers.free_ports(count))]
  environs = [environment(addresses, index) for index in range(count)]
  for environ in environs:
    del environ[LAUNCHED]
  workers = [subprocess.Popen(of_worker(index, command), env=environ, cwd=TESTS.parent, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) for index, environ in enumerate(environs)]
  try:
    yield workers
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()


def end(worker, seconds=SECONDS):
  """Waits for a process -> its exit status, and what it has written to standard error."""
  _, err = worker.communicate(timeout=seconds)
  return worker.returncode, err


def succeed(workers):
  """Waits for processes, which must succeed."""
  for worker in workers:
    status, err = end(worker)
    assert status == 0, err


def command(corpus, workdir, *others):
  """charlm-train with the flags of a small run."""
  given = runs.flags(corpus, workdir, '--strategy=multi_worker', *others)
  return [sys.executable, '-m', 'charlm.commands.train', *given[1:]]


def train(corpus, workdir, count, *others):
  """Trains in so many workers, which must succeed."""
  with started(command(corpus, workdir, *others), count) as workers:
    succeed(workers)


def wait_for_step(workers, workdir, step):
  """Waits until a checkpoint of this step, or a later one, is there."""
  until = time.monotonic() + SECONDS
  while not any(int(path.stem.partition('-')[2]) >= step for path in checkpoint.saved(workdir)):
    gone = [worker.stderr.read() for worker in workers if worker.poll() is not None]
    assert time.monotonic() < until and not gone, gone
    time.sleep(0.02)


def assert_close(one, other, tolerance):
  """The last checkpoints hold the same numbers, and the losses that were reported are the same to 1e-4."""
  (a, _), (b, _) = runs.last(one), runs.last(other)
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_allclose(a[name], b[name], atol=tolerance, err_msg=name)
  for first, second in zip(runs.metrics(one), runs.metrics(other), strict=True):
    assert first.keys() == second.keys() and first['step'] == second['step']
    for name in ('train_nats_per_token', 'valid_nats_per_token'):
      if name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4)
