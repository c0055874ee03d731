"""Where a worker is gone, hangs or cannot be reached, the others end; started again they end in the same bits."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import runs
from workers import processes

RUN = ['--steps=200', '--eval_every=50', '--sample_every=0', '--worker_timeout=150']
BOUND = 200  # seconds that the others may take to notice


@pytest.fixture(scope='module')
def unbroken(corpus, tmp_path_factory):
  """The workdir of a run of two workers that was never stopped."""
  workdir = tmp_path_factory.mktemp('unbroken') / 'run'
  processes.train(corpus, workdir, 2, *RUN)
  return workdir


def assert_told(worker, *words):
  """It ends in time, with one line for what went wrong, which is returned."""
  status, err = processes.end(worker, BOUND)
  line = err.splitlines()[-1]
  assert status == 1 and 'Traceback' not in err and all(word in line for word in words), err
  assert 'Start all workers again' in line
  return line


@pytest.mark.slow
@pytest.mark.parametrize('victim', [1, 0], ids=['worker', 'chief'])
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP], ids=['killed', 'stopped'])
def test_where_one_is_gone_the_other_ends_and_both_go_on_to_the_same_bits(corpus, unbroken, tmp_path, victim, number):
  workdir = tmp_path / 'run'
  with processes.started(processes.command(corpus, workdir, *RUN), 2) as workers:
    processes.wait_for_step(workers, workdir, 6)
    workers[victim].send_signal(number)
    assert_told(workers[1 - victim], f'worker {victim} ')
    assert runs.last(workdir)[1]['step'] < 200
  processes.train(corpus, workdir, 2, *RUN)
  runs.assert_same_run(unbroken, workdir)


@pytest.mark.slow
def test_a_worker_that_is_alive_and_does_nothing(corpus, tmp_path):
  """The other ends: its time is up, or TensorFlow has missed a heartbeat. Who does nothing cannot end itself."""
  program = ('import sys, time; from charlm.training import trainer; from charlm.commands import train; '
             'trainer.Trainer._train_call = lambda self: time.sleep(1000); train.run(sys.argv)')

  def of_worker(index, command):
    return [sys.executable, '-c', program, *command[3:]] if index else command

  arguments = processes.command(corpus, tmp_path / 'run', '--worker_timeout=20')
  with processes.started(arguments, 2, of_worker) as workers:
    assert_told(workers[0])


@pytest.mark.slow
@pytest.mark.parametrize('there', [0, 1], ids=['chief', 'worker'])
def test_a_worker_that_never_comes(corpus, tmp_path, there):
  def of_worker(index, command):
    return command if index == there else ['sleep', '1000']

  arguments = processes.command(corpus, tmp_path / 'run', '--worker_timeout=5')
  with processes.started(arguments, 2, of_worker) as workers:
    assert_told(workers[there], f'--worker_timeout=5: worker {there} ')
  assert not list((tmp_path / 'run').glob('**/*.*'))


@contextlib.contextmanager
def network(name):
  """A network namespace of this name, with one cable to it: yields the two addresses, and what cuts the cable."""
  def ip(*words):
    subprocess.run(['ip', *words], check=True, capture_output=True)

  try:
    ip('netns', 'add', name)
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f'no network namespaces here ({error})')
  near, far = f'{name}a', f'{name}b'
  try:
    ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name)
    ip('addr', 'add', '10.213.77.1/30', 'dev', near)
    ip('link', 'set', near, 'up')
    for words in ('addr add 10.213.77.2/30 dev ' + far, f'link set {far} up', 'link set lo up'):
      ip('-n', name, *words.split())
    yield ('10.213.77.1', '10.213.77.2'), lambda: ip('link', 'set', near, 'down')
  finally:
    subprocess.run(['ip', 'link', 'del', near], capture_output=True)
    subprocess.run(['ip', 'netns', 'del', name], capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('ip') or os.geteuid(), reason='needs ip, and root')
def test_a_network_that_is_cut(corpus, unbroken, tmp_path):
  workdir, name = tmp_path / 'run', f'charlm{os.getpid() % 100000}'
  with network(name) as (hosts, cut):
    def of_worker(index, command):
      return ['ip', 'netns', 'exec', name, *command] if index else command

    with processes.started(processes.command(corpus, workdir, *RUN), 2, of_worker, hosts) as workers:
      processes.wait_for_step(workers, workdir, 6)
      cut()
      for worker in workers:
        assert_told(worker, '--strategy=multi_worker: ')
  processes.train(corpus, workdir, 2, *RUN)
  runs.assert_same_run(unbroken, workdir)


@pytest.mark.slow
@pytest.mark.parametrize('asked', [1, 0], ids=['worker', 'chief'])
def test_sigterm_on_any_worker_saves_and_all_leave(corpus, unbroken, tmp_path, asked):
  workdir = tmp_path / 'run'
  with processes.started(processes.command(corpus, workdir, *RUN), 2) as workers:
    processes.wait_for_step(workers, workdir, 6)
    workers[asked].send_signal(signal.SIGTERM)
    began = time.monotonic()
    (status, err), (other, _) = (processes.end(worker) for worker in workers)
    assert (status, other) == (130, 130) and time.monotonic() - began < 10
    assert f'Stopped after step {runs.last(workdir)[1]["step"]}; all is saved' in err
  processes.train(corpus, workdir, 2, *RUN)
  runs.assert_same_run(unbroken, workdir)


@pytest.mark.slow
def test_what_workers_must_have_in_common(corpus, unbroken, tmp_path):
  """The flags; the text; and, where a run goes on, the workdir."""
  other, empty = tmp_path / 'other.txt', tmp_path / 'empty'
  other.write_text(runs.TEXT.replace('best', 'first'))
  for flag, workdir, words in (
      ('--units=16', tmp_path / 'run', '--units=16 (was 12); expected the same command'),
      (f'--corpus={other}', tmp_path / 'run', 'other.txt'), (f'--workdir={empty}', unbroken, str(empty))):
    def of_worker(index, command, flag=flag):
      return [*(w for w in command if w.partition('=')[0] != flag.partition('=')[0]), flag] if index else command

    with processes.started(processes.command(corpus, workdir, *RUN), 2, of_worker) as workers:
      status, err = processes.end(workers[1])
      assert status in (1, 2) and words in err.splitlines()[-1] and 'Traceback' not in err, err
      assert_told(workers[0], 'worker 1 ')
