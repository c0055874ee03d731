"""One, two and four replicas, in one process or in several, learn the same; and a run goes on with any number."""
import subprocess
import sys

import numpy as np
import pytest

from charlm.training.watchdog import LAUNCHED
from workers import processes, steps

PROGRAM = str(processes.TESTS / 'workers' / 'steps.py')


def taken(out, replicas, several):
  """-> {case/name: array} that `steps.py` has left. several: whether each replica has a process of its own."""
  if several:
    with processes.started([sys.executable, PROGRAM, f'{out}.npz', '1'], replicas) as workers:
      processes.succeed(workers)
  else:
    environ = processes.environment(['localhost:1'], 0)
    del environ['TF_CONFIG']
    subprocess.run([sys.executable, PROGRAM, f'{out}.npz', str(replicas)], env=environ, check=True,
                   capture_output=True, timeout=processes.SECONDS)
  with np.load(f'{out}.npz') as found:
    return dict(found)


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  return taken(tmp_path_factory.mktemp('one') / 'one', 1, False)


@pytest.mark.slow
@pytest.mark.parametrize('replicas, several', [(2, True), (4, True), (4, False)])
def test_replicas_learn_the_same(one, tmp_path, replicas, several):
  """And a step of several processes makes one sum over them, of all that they have to tell each other."""
  many = taken(tmp_path / 'many', replicas, several)
  assert many.pop('replicas') == replicas
  sums = {name: int(many.pop(f'{name}/collectives')) for name in steps.CASES if several}
  assert set(sums.values()) <= {1}, sums
  for name, array in many.items():
    case, what = name.split('/')
    if what == 'nats':
      np.testing.assert_allclose(array, one[name], rtol=1e-4, err_msg=name)
    else:  # the carry is some 30 times as large as what it follows from
      tolerance = steps.CASES[case][2] * (10 if what.startswith('carry') else 1)
      np.testing.assert_allclose(array, one[name], atol=tolerance, err_msg=name)


@pytest.mark.slow
def test_a_run_of_two_workers_goes_on_in_four_and_ends_in_one(corpus, finished, tmp_path):
  workdir = tmp_path / 'run'
  for count, step in (2, 6), (4, 18):
    with processes.started(processes.command(corpus, workdir), count) as workers:
      processes.wait_for_step(workers, workdir, step)
  processes.train(corpus, workdir, 1)
  processes.assert_close(finished, workdir, 1e-4)


@pytest.mark.slow
def test_several_steps_in_one_call_are_as_many_calls(corpus, finished, tmp_path):
  processes.train(corpus, tmp_path / 'run', 2, '--steps_per_call=5')
  processes.assert_close(finished, tmp_path / 'run', 1e-4)


@pytest.mark.slow
def test_the_launcher_trains_in_workers_of_its_own(corpus, finished, tmp_path):
  """What the chief says comes through; nothing else of two workers that do well."""
  environ = processes.environment(['localhost:1'], 0)
  for name in ('TF_CONFIG', LAUNCHED):
    del environ[name]
  command = [word for word in processes.command(corpus, tmp_path / 'run') if not word.startswith('--strategy')]
  done = subprocess.run([*command, '--local_workers=2'], env=environ, capture_output=True, text=True,
                        timeout=processes.SECONDS)
  assert done.returncode == 0 and 'Trained for 40 steps' in done.stdout, done.stderr
  assert 'step 40, epoch' in done.stderr and 'worker 1' not in done.stderr
  processes.assert_close(finished, tmp_path / 'run', 1e-4)
