"""The launcher: its workers end together, and its exit status is that of the first that failed."""
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from charlm.commands import train
from charlm.training import local_workers, watchdog
from charlm.training.watchdog import Watchdog
from flags import parse
from flags.data import DataConfig
from flags.errors import RunError, UserError
from flags.network import ModelConfig
from flags.run import RunConfig
from flags.training import TrainConfig
from runs import flags, refused

WAITS = 'exec sleep 100'
GROUPS = RunConfig, DataConfig, ModelConfig, TrainConfig


def shells(*commands):
  return [subprocess.Popen(['sh', '-c', command]) for command in commands]


@pytest.mark.parametrize('commands, first, status', [
  (['true', 'true'], 0, 0), (['exit 3', WAITS], 0, 3), ([WAITS, 'exit 2', WAITS], 1, 2),
  (['sleep 1; exit 1', 'exit 2'], 1, 2), (['kill -STOP $$', 'exit 4'], 1, 4)])
def test_all_end_with_the_first_that_fails(commands, first, status):
  workers, began = shells(*commands), time.monotonic()
  assert local_workers.supervise(workers) == first and workers[first].returncode == status
  assert all(worker.returncode is not None for worker in workers) and time.monotonic() - began < 20


def test_those_that_save_have_time_to():
  workers = shells('sleep 1; exit 130', 'exit 130')
  assert local_workers.supervise(workers) == 1 and [worker.returncode for worker in workers] == [130, 130]


@pytest.mark.parametrize('shell, error, words', [
  ('echo notice: a >&2; echo charlm-train: --a=x: why >&2; exit 2', UserError, '--local_workers: worker 1: --a=x: why'),
  ('echo charlm-train: disk >&2; exit 1', RunError, '--local_workers: worker 1: disk'),
  ('exit 1', RunError, '--local_workers: worker 1: has ended with status 1'),
  ('kill -KILL $$', RunError, '--local_workers: worker 1 was killed (SIGKILL), and the others were ended. The same')])
def test_why_one_has_failed_is_the_last_line(monkeypatch, capsys, shell, error, words):
  start = local_workers._start
  monkeypatch.setattr(local_workers, '_start', lambda command, environ, apart: start(
      ['sh', '-c', shell if apart else WAITS], environ, apart))
  with pytest.raises(error) as raised:
    local_workers.run(2, {})
  assert str(raised.value).startswith(words)
  assert capsys.readouterr().err == ('worker 1: notice: a\n' if 'notice' in shell else '')


def test_signals_are_passed_on():
  workers = shells(*['trap "exit 130" TERM; while :; do sleep 0.1; done'] * 2)
  time.sleep(0.5)
  threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
  with local_workers._passing_on_signals(workers):
    local_workers.supervise(workers)
  assert [worker.returncode for worker in workers] == [130, 130]


def test_ports_are_free_and_differ():
  ports = local_workers.free_ports(5)
  assert len(set(ports)) == 5
  for port in ports:
    with socket.socket() as each:
      each.bind(('127.0.0.1', port))


def test_flags_are_handed_on_as_they_were_given(tmp_path):
  given = [f'--workdir={tmp_path}/a b', '--document_reset', '--document_separator=\\\\n\\t=', '--learning_rate=1e-4',
           '--preset=demo', '--nolayer_norm', '--optimizer_constants=beta_1=0.8']
  found = parse.parse(['charlm-train', *given], GROUPS)
  assert found['document_separator'] == '\\n\t='
  assert parse.parse(['charlm-train', *local_workers.arguments(found)], GROUPS) == found


def test_workers_share_the_cores(monkeypatch):
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS', raising=False)
  cores = len(os.sched_getaffinity(0))
  for count in (1, 2, cores, 4 * cores):
    environ = local_workers.environment(['a:1'] * count, 0)
    assert environ['TF_NUM_INTRAOP_THREADS'] == str(max(1, cores // count))
  monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', '7')
  assert local_workers.environment(['a:1', 'b:1'], 1)['TF_NUM_INTRAOP_THREADS'] == '7'


@pytest.mark.parametrize('others, words', [
  (['--local_workers=3'], '--batch_size=4: expected a multiple of --local_workers=3'),
  (['--local_workers=2', '--strategy=mirrored'], '--local_workers=2 with --strategy=mirrored: expected multi_worker'),
  (['--local_workers=65'], '--local_workers=65'), (['--local_workers=-1'], '--local_workers=-1'),
  (['--worker_timeout=0.5'], '--worker_timeout=0.5: expected'), (['--strategy=multi_worker'], 'TF_CONFIG is not set')])
def test_what_cannot_be_is_told_before_anything_is_started(corpus, tmp_path, monkeypatch, capsys, others, words):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  monkeypatch.setattr(subprocess, 'Popen', None)
  assert words in refused(flags(corpus, tmp_path / 'run', *others), capsys)
  assert not (tmp_path / 'run').exists()


# The watchdog.


@pytest.fixture
def ends(monkeypatch):
  """The exit statuses that this process would have ended with."""
  found = []
  monkeypatch.setattr(os, '_exit', found.append)
  return found


def test_waiting_in_vain_ends_the_process(ends, capsys):
  with Watchdog(0.5, 3) as dog:
    for _ in range(4):
      with dog.waiting():
        time.sleep(0.3)
    with dog.patient(), dog.waiting():
      time.sleep(1.6)
    time.sleep(1.6)
    assert not ends
    with dog.waiting():
      time.sleep(2)
  assert ends == [1] and 'charlm-train: --worker_timeout=0.5: worker 3 ' in capsys.readouterr().err


def test_one_process_is_not_watched(monkeypatch, ends):
  monkeypatch.delenv(watchdog.LAUNCHED, raising=False)
  before = threading.active_count()
  with Watchdog(0):
    assert threading.active_count() == before


def test_a_launcher_that_is_gone_is_as_sigterm(monkeypatch):
  heard, parents = [], iter([7, 7, *[1] * 100])
  monkeypatch.setenv(watchdog.LAUNCHED, '1')
  monkeypatch.setattr(os, 'getppid', lambda: next(parents))
  monkeypatch.setattr(os, 'kill', lambda pid, number: heard.append((pid, number)))
  with Watchdog(0):
    time.sleep(4.5)
  assert heard == [(os.getpid(), signal.SIGTERM)]


def test_the_command_starts_workers(corpus, tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(local_workers, 'run', lambda count, given: calls.append((count, given)) or 130)
  with pytest.raises(SystemExit) as exit_:
    train.run(flags(corpus, tmp_path / 'run', '--local_workers=2'))
  (count, given), = calls
  assert (exit_.value.code, count, given['strategy']) == (130, 2, 'multi_worker') and 'local_workers' not in given
