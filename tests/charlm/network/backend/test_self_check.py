"""Kernels that answer wrongly, crash or hang are found out, in a child process, once."""
import functools
import os
import sys

import pytest
import tensorflow as tf

from charlm.network.backend import choice, kernels, self_check

needs_kernels = pytest.mark.skipif(bool(kernels.register()[1]), reason='no native kernels')


@pytest.fixture
def library(tmp_path, monkeypatch):
  """A stand-in for the library, an empty cache, and no verdict so far."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  self_check.problem.cache_clear()
  yield tmp_path / 'kernels.so'
  self_check.problem.cache_clear()


def child(monkeypatch, program):
  monkeypatch.setattr(self_check, 'COMMAND', [sys.executable, '-c', program])


@pytest.mark.parametrize('program,words', [
  ('print("sound")', ''),
  ('print("noise"); print("a GRU layer by the kernels is wrong (result 2)")', 'a GRU layer by the kernels is wrong'),
  ('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)', 'crashed (SIGSEGV)'),
  ('raise KeyError("registry")', "failed (KeyError: 'registry')"), ('pass', 'failed (0)'),
  ('import time; time.sleep(60)', 'took more than 1 seconds')])
def test_each_failure_is_a_line(program, words, library, monkeypatch):
  library.write_bytes(b'a library')
  monkeypatch.setattr(self_check, 'SECONDS', 1 if 'sleep' in program else 60)
  child(monkeypatch, program)
  problem = self_check.problem(library)
  assert words in problem and bool(problem) == bool(words) and '\n' not in problem


def test_a_verdict_is_kept_for_this_library_and_this_tensorflow(library, tmp_path, monkeypatch):
  library.write_bytes(b'a library')
  log = tmp_path / 'runs'
  child(monkeypatch, f'open({str(log)!r}, "a").write("x"); print("sound")')

  def runs():
    self_check.problem.cache_clear()
    assert self_check.problem(library) == ''
    return len(log.read_text())

  assert [runs(), runs()] == [1, 1]
  kept, = (tmp_path / 'cache' / 'charlm' / 'self_check').iterdir()
  kept.write_text('soun')  # as a kill while it was written leaves it
  assert [runs(), runs()] == [2, 2]
  library.write_bytes(b'another')
  assert [runs(), runs()] == [3, 3]
  monkeypatch.setattr(tf, '__version__', f'{tf.__version__}.1')
  assert [runs(), runs()] == [4, 4]


@pytest.mark.parametrize('program', ['raise MemoryError', 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'])
def test_a_verdict_that_may_be_the_machines_fault_is_not_kept(program, library, monkeypatch):
  library.write_bytes(b'a library')
  child(monkeypatch, program)
  assert 'self-check' in self_check.problem(library)
  self_check.problem.cache_clear()
  child(monkeypatch, 'print("sound")')
  assert self_check.problem(library) == ''


@needs_kernels
def test_the_child_checks_this_charlm_wherever_it_runs(tmp_path, monkeypatch):
  """A folder may have modules of any name."""
  (tmp_path / 'charlm.py').write_text('raise SystemExit("another charlm")')
  (tmp_path / 'numpy.py').write_text('raise SystemExit("another numpy")')
  monkeypatch.setattr(sys, 'path', [path or os.getcwd() for path in sys.path])
  monkeypatch.chdir(tmp_path)
  assert self_check._run(tmp_path / 'kept') == 'sound'


def test_a_cache_that_cannot_be_written_does_no_harm(library, tmp_path, monkeypatch):
  library.write_bytes(b'a library')
  (tmp_path / 'cache').write_text('a file, where a folder should be')
  child(monkeypatch, 'print("sound")')
  assert self_check.problem(library) == ''


@needs_kernels
def test_the_kernels_are_sound():
  assert self_check.compare() == self_check.SOUND


@needs_kernels
def test_a_failure_that_is_not_seen_is_found(monkeypatch):
  monkeypatch.setattr(kernels, 'failing_call', lambda: tf.zeros([1, 1]))
  assert self_check.compare() == 'this TensorFlow does not see when they fail'


@needs_kernels
@pytest.mark.parametrize('name,words', [('linear_map', 'a linear map'), ('gru', 'a GRU layer')])
def test_a_wrong_answer_is_found(name, words, monkeypatch):
  right = getattr(kernels, name)
  monkeypatch.setattr(kernels, name, functools.wraps(right)(lambda *a, **k: 1.001 * right(*a, **k)))
  assert self_check.compare().startswith(f'{words} by the kernels is wrong')


def test_the_choice_asks_before_it_says_yes(library, monkeypatch):
  library.write_bytes(b'a library')
  monkeypatch.setattr(kernels, 'LIBRARY', library)
  child(monkeypatch, 'import os; os.abort()')
  assert choice._unavailable() == 'their self-check crashed (SIGABRT)'
