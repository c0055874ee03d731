"""What the machine gives the process."""
import ctypes
import itertools
import os
import pathlib
import platform
import re
import subprocess
import sys

import pytest
import tensorflow as tf

from charlm.network import runtime
from charlm.network.backend import kernels
from charlm.workdir.tensorboard import TensorBoard

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.skipif(bool(kernels.register()[1]), reason='no native kernels')
@pytest.mark.parametrize('recurrence,resets,told,left', [
  ('auto', False, '', 1), ('auto', False, '3', 0), ('auto', True, '', 0), ('xla', False, '', 0)])
def test_xla_is_left_one_thread_beside_the_kernels(recurrence, resets, told, left):
  """In a process of its own: the number of threads is settled when TensorFlow begins to compute."""
  program = f"""if True:
    import tensorflow as tf
    from charlm.network import runtime
    from charlm.network.backend import choice
    from flags.network import ModelConfig
    backend = choice.choose({recurrence!r}, ModelConfig())
    choice.share_cores(backend, resets={resets})
    print(tf.config.threading.get_intra_op_parallelism_threads())
    tf.zeros([])
    choice.share_cores(backend, resets={resets})  # too late, and no error
    print(runtime.threads())"""
  result = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'TF_NUM_INTRAOP_THREADS': told})
  first, threads = result.stdout.split()
  assert (int(first), int(threads)) == (left, int(told or len(os.sched_getaffinity(0)))), result


def anonymous_kilobytes():
  """The memory of its own that this process uses."""
  ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
  return int(re.search(r'RssAnon:\s+(\d+)', pathlib.Path('/proc/self/status').read_text())[1])


def scalars(folder):
  for number in range(20_000):
    assert runtime.scalar(number / 7).dtype == tf.float32
    yield


def reports(folder):
  board = TensorBoard(folder)
  for step in range(800):
    board.write(step, {str(i): step + (i + 0.5) / 25 for i in range(25)})
    yield
  board.close()


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='reads /proc, and asks the GNU C library')
@pytest.mark.parametrize('work', [scalars, reports])
def test_numbers_are_not_kept(tmp_path, work):
  """TensorFlow would keep 16 MB of 20,000 Python numbers."""
  (tmp_path / 'tensorboard').mkdir()
  steps = work(tmp_path)
  for _ in itertools.islice(steps, 80):  # the first have more to do
    pass
  before = anonymous_kilobytes()
  done = sum(1 for _ in steps)
  assert done > 700 and anonymous_kilobytes() - before < 4096
