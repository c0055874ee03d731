"""What the kernels are given is checked, and what they cannot compute becomes an error of one line."""
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from charlm.network import cells
from charlm.network.backend import kernels
from charlm.network.recurrence import Lookup

ROOT = pathlib.Path(__file__).parents[4]
pytestmark = pytest.mark.skipif(bool(kernels.register()[1]), reason=kernels.register()[1])


NAN = float('nan')


def call(name, *numbers, operands=4):
  """Runs a kernel that must fail before it reads its operands. -> the error's words."""
  run = tf.function(lambda: kernels._call(name, [tf.ones([2, 3])] * operands, [(2, 3)], *numbers), jit_compile=True)
  with pytest.raises(tf.errors.InternalError) as error:
    run()
  return error.value.message.partition(' [Op:')[0]


@pytest.mark.parametrize('name,numbers,words', [
  ('product', (), 'rows: expected 1 to 2147483647, got nothing'),
  ('product', (2, 3, 3), 'transposed: expected 0 to 1, got nothing'),
  ('product', (2, 3, 3, 2), 'transposed: expected 0 to 1, got 2'),
  ('product', (2, 0, 3, 0), 'count: expected 1 to 2147483647, got 0'),
  ('product', (2 ** 31, 3, 3, 0), 'rows: expected 1 to 2147483647, got 2147483648'),
  ('product', (2 ** 70, 3, 3, 0), f'rows: expected 1 to 2147483647, got {2 ** 70}'),
  ('product', (2, 3, 3, 0, 5), "expected no more numbers, got '5'"),
  ('product', (2 ** 30, 2 ** 30, 3, 0), 'expected arrays of at most 1099511627776 numbers'),
  ('linear_map', (2, 3, 3, 0, 9, *[1] * 9), 'groups: expected 1 to 8, got 9'),
  ('linear_map', (2, 3, 3, 0, 2, 1, 1), 'groups: expected 3 columns in all, got 2'),
  ('linear_map', (2, 3, 3, 0, 2, 4, -1), 'columns of a group: expected 1 to 2147483647, got -1'),
  ('gru_forward', (False, 2, 1, 3, 0, 1.0, NAN, 0, 0), 'scale of the candidate mask: expected a finite number'),
  ('gru_forward', (False, 2 ** 30, 2 ** 30, 3, 0, 1.0, 1.0, 0, 0), 'expected arrays of at most 1099511627776 numbers'),
  ('gru_backward', (2, 1, 3, -1, 1.0, 1.0, 0, 0), 'rows of the table: expected 0 to 2147483647, got -1'),
  ('gru_step', (2, 1, 3, 0, 1.0, 1.0, 0, 0), 'steps: expected 1, got 2')])
def test_wrong_numbers_are_an_error(name, numbers, words):
  assert call(name, *numbers, operands=8) == f'native kernel {name}: {words}'


def test_a_token_outside_the_table_is_an_error():
  table, state, U = tf.zeros([7, 6]), tf.zeros([1, 2]), tf.zeros([2, 6])

  @tf.function(jit_compile=True)
  def run(tokens):
    return kernels.gru(Lookup(table, tokens), state, U, tf.ones([6]), tf.ones([2]), [cells.Mask()] * 2,
                       differentiable=False)

  for token in -1, 7:
    with pytest.raises(tf.errors.InternalError, match=f'expected tokens below 7, got {token}'):
      run(tf.constant([[0], [token]]))
  assert run(tf.constant([[0], [6]])).shape == (2, 1, 2)


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc and a limit of address space')
def test_a_lack_of_memory_is_an_error():
  soft, hard = resource.getrlimit(resource.RLIMIT_AS)
  used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
  resource.setrlimit(resource.RLIMIT_AS, (used + 2 ** 31, hard))
  try:
    words = call('transposed_product', 2, 2, 30_000_000, operands=2)
  finally:
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
  assert words == 'native kernel transposed_product: out of memory: no 29296 MiB more for intermediate results'
  product = tf.function(kernels.matmul, jit_compile=True)(tf.ones([2, 3]), tf.ones([3, 4]))
  np.testing.assert_array_equal(product, np.full([2, 4], 3))


@pytest.mark.skipif(not shutil.which('localedef'), reason='no localedef')
def test_numbers_are_read_the_same_where_decimals_have_a_comma(tmp_path):
  """In a process of its own, as German users have it; scales of masks are no integers."""
  subprocess.run(['localedef', '-i', 'de_DE', '-f', 'UTF-8', tmp_path / 'de_DE.UTF-8'], check=True)
  program = """if True:
    import locale
    locale.setlocale(locale.LC_ALL, '')
    from charlm.network.backend import self_check
    print(self_check.compare())
    print(locale.localeconv()['decimal_point'])"""
  result = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'LOCPATH': str(tmp_path), 'LC_ALL': 'de_DE.UTF-8'})
  assert result.stdout.splitlines()[-2:] == ['sound', ','], result
