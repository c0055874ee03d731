"""Checkpoints are whole or not there; damage is noticed; the last good one stays."""
import resource
import signal

import numpy as np
import pytest
import tensorflow as tf

from charlm.training import optimizer
from charlm.workdir import checkpoint
from flags.errors import RunError, UserError
from flags.training import TrainConfig


def save(folder, step, size=10):
  checkpoint.save(folder, step, {'model/000_w': np.full(size, step, np.float32)}, {'step': step})


def test_round_trip_keeps_the_newest_two(tmp_path):
  for step in (1, 2, 3):
    save(tmp_path, step)
  assert [p.name for p in checkpoint.saved(tmp_path)] == ['step-00000003.npz', 'step-00000002.npz']
  arrays, state = checkpoint.newest(tmp_path)
  np.testing.assert_array_equal(arrays['model/000_w'], np.full(10, 3))
  assert state == {'step': 3}


def test_nothing_there(tmp_path):
  assert checkpoint.newest(tmp_path) is None


def truncate(data):
  return data[:len(data) // 2]


def flip(data):
  i = data.index(np.full(10, 2, np.float32).tobytes()) + 5
  return data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]


@pytest.mark.parametrize('damage', [truncate, flip, lambda data: b''], ids=['truncate', 'flip', 'empty'])
def test_a_damaged_one_falls_back_with_a_warning(tmp_path, damage):
  save(tmp_path, 1)
  save(tmp_path, 2)
  path = checkpoint.saved(tmp_path)[0]
  path.write_bytes(damage(path.read_bytes()))
  warnings = []
  _, state = checkpoint.newest(tmp_path, warnings.append)
  assert state == {'step': 1}
  assert len(warnings) == 1 and str(path) in warnings[0]


def test_no_flipped_byte_goes_unnoticed(tmp_path):
  save(tmp_path, 1)
  path = checkpoint.saved(tmp_path)[0]
  whole = path.read_bytes()
  want, state = checkpoint.read(path)
  for i in range(0, len(whole), 3):
    path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x80]) + whole[i + 1:])
    try:
      arrays, found = checkpoint.read(path)
    except RunError:
      continue
    assert found == state and arrays.keys() == want.keys(), i  # a byte that holds nothing
    np.testing.assert_array_equal(arrays['model/000_w'], want['model/000_w'])


def test_what_is_newer_is_damaged_and_goes(tmp_path):
  for step in (1, 2, 9):
    save(tmp_path, step)
  save(tmp_path, 3)
  assert [p.name for p in checkpoint.saved(tmp_path)] == ['step-00000003.npz', 'step-00000002.npz']


def test_all_damaged(tmp_path):
  save(tmp_path, 1)
  checkpoint.saved(tmp_path)[0].write_bytes(b'')
  with pytest.raises(RunError, match='none of its 1'):
    checkpoint.newest(tmp_path, lambda text: None)


def test_a_full_disk_leaves_the_last_good_one(tmp_path):
  save(tmp_path, 1)
  before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on file sizes stands for the disk
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
  try:
    with pytest.raises(RunError, match=r'step-00000002.npz.*last good one is .*step-00000001.npz'):
      save(tmp_path, 2, size=1_000_000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGXFSZ, before)
  assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['step-00000001.npz']


def test_variables_round_trip():
  variables = [tf.Variable([1.0, 2.0], name='a'), tf.Variable(3, name='b')]
  arrays = checkpoint.collect('model', variables)
  for v in variables:
    v.assign(tf.zeros_like(v))
  checkpoint.restore('model', variables, arrays)
  np.testing.assert_array_equal(variables[0], [1.0, 2.0])
  assert int(variables[1]) == 3


def test_variables_without_names_of_their_own_are_those_of_any_process():
  """Nadam has one, which Keras numbers by what the process has made."""
  def variables():
    weight = tf.Variable([[1.0, 2.0]], name='kernel')
    return [v.value for v in optimizer.make_optimizer(TrainConfig(optimizer='nadam'), [weight]).variables]

  one, two = variables(), variables()
  checkpoint.restore('optimizer', two, checkpoint.collect('optimizer', one))


@pytest.mark.parametrize('others', [[tf.Variable([1.0])], [tf.Variable([1.0, 2.0]), tf.Variable(3.0)], []])
def test_another_models_arrays_are_refused(others):
  arrays = checkpoint.collect('model', [tf.Variable([1.0, 2.0])])
  with pytest.raises(UserError, match='another model'):
    checkpoint.restore('model', others, arrays)
