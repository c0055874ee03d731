"""What the machine gives the process."""
import os
import pathlib
import subprocess
import sys

import pytest

from charlm.network.backend import kernels

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
