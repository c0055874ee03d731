"""Checkpoints are whole or not there; damage is noticed; the last good one stays."""
import json
import os
import re
import resource
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from charlm.commands import evaluate, export, sample, train
from charlm.training import optimizer
from charlm.workdir import checkpoint
from charlm.workdir.variables import carry_keys, collect, restore
from flags.errors import RunError, UserError
from flags.training import TrainConfig
from runs import complaint


def save(folder, step, size=10):
  checkpoint.save(folder, step, {'model/w': np.full(size, step, np.float32)}, {'step': step})


def test_round_trip_keeps_the_newest_two(tmp_path):
  for step in (1, 2, 3):
    save(tmp_path, step)
  assert [p.name for p in checkpoint.saved(tmp_path)] == ['step-00000003.npz', 'step-00000002.npz']
  arrays, state = checkpoint.newest(tmp_path)
  np.testing.assert_array_equal(arrays['model/w'], np.full(10, 3))
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
  _, state = checkpoint.newest(tmp_path, warn=warnings.append)
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
    np.testing.assert_array_equal(arrays['model/w'], want['model/w'])


def test_what_is_newer_stays_and_does_not_count(tmp_path):
  for step in (1, 2, 9, 3):
    save(tmp_path, step)
  assert [p.name for p in checkpoint.saved(tmp_path)] == [f'step-0000000{step}.npz' for step in (9, 3, 2)]


def test_all_damaged(tmp_path):
  save(tmp_path, 1)
  checkpoint.saved(tmp_path)[0].write_bytes(b'')
  with pytest.raises(RunError, match='none of its 1'):
    checkpoint.newest(tmp_path, warn=lambda text: None)


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
  arrays = collect('model', variables)
  assert arrays.keys() == {'model/a', 'model/b'}
  for v in variables:
    v.assign(tf.zeros_like(v))
  restore('model', variables, arrays)
  np.testing.assert_array_equal(variables[0], [1.0, 2.0])
  assert int(variables[1]) == 3


def test_variables_without_names_of_their_own_are_those_of_any_process():
  """Nadam has one, which Keras numbers by what the process has made."""
  def variables():
    weight = tf.Variable([[1.0, 2.0]], name='kernel')
    return optimizer.make_optimizer(TrainConfig(optimizer='nadam'), [weight]).variables

  one, two = variables(), variables()
  names = 'iteration', 'learning_rate', 'kernel_0_momentum', 'kernel_0_velocity', 'variable'
  assert collect('optimizer', one).keys() == {f'optimizer/{name}' for name in names}
  restore('optimizer', two, collect('optimizer', one))


@pytest.mark.parametrize('others', [[tf.Variable([1.0])], [tf.Variable([1.0, 2.0]), tf.Variable(3.0, name='b')], []])
def test_another_models_arrays_are_refused(others):
  arrays = collect('model', [tf.Variable([1.0, 2.0])])
  with pytest.raises(UserError, match='another model'):
    restore('model', others, arrays)


@pytest.mark.parametrize('array,words', [
    (np.array([1, 2]), 'int64 of shape (2,), expected float32 of shape (2,)'), (np.array([1, np.nan], 'f'), 'finite'),
    (np.array(['1', '2']), 'str'), (np.array([1, np.inf], 'f'), 'not finite in model/')])
def test_arrays_of_another_kind_are_refused(array, words):
  variable = tf.Variable([1.0, 2.0])
  key, = collect('model', [variable])
  with pytest.raises(UserError, match=re.escape(words)):
    restore('model', [variable], {key: array})
  assert variable.numpy().tolist() == [1, 2]


STATE = {'step': 3, 'best_nats': None, 'valid_nats': [1.5], 'finished': '', 'metrics': {'nats': 0.0, 'count': 2}}


@pytest.mark.parametrize('changes', [{}, {'best_nats': 2.5}, {'valid_nats': []}, {'metrics': {'nats': 1, 'count': 0}},
                                     {'more': 1}])
def test_a_state_of_the_same_types_will_do(changes):
  checkpoint.check_state('run', STATE | changes, STATE)


@pytest.mark.parametrize('name,value', [
    ('step', None), ('step', '3'), ('step', -1), ('step', 1.5), ('step', True), ('step', 2**63), ('best_nats', 'x'),
    ('best_nats', float('nan')), ('valid_nats', [None]), ('valid_nats', 3.0), ('finished', None), ('metrics', []),
    ('metrics', {'nats': 1.0}), ('metrics', {'nats': 10**400, 'count': 2})])
def test_a_state_of_other_types_is_refused(name, value):
  with pytest.raises(UserError, match=f'--workdir=run: the state in its checkpoint has {name}=') as error:
    checkpoint.check_state('run', STATE | {name: value}, STATE)
  assert len(str(error.value)) < 300
  with pytest.raises(UserError, match=name):
    checkpoint.check_state('run', {key: value for key, value in STATE.items() if key != name}, STATE | {name: 0})


def test_variables_have_the_same_keys_wherever_they_stand():
  one, other = [tf.Variable([1.0, 2.0], name='a'), tf.Variable([3.0, 4.0], name='b')], [
      tf.Variable([0.0, 0.0], name='b'), tf.Variable([0.0, 0.0], name='a')]
  restore('model', other, collect('model', one))
  np.testing.assert_array_equal(other, [[3.0, 4.0], [1.0, 2.0]])


def test_the_attribute_that_holds_a_layer_has_no_part_in_its_keys():
  """TensorFlow lists variables by the names of attributes."""
  def module(first, second):
    made = tf.Module()
    setattr(made, first, tf.Variable([1.0], name='a'))
    setattr(made, second, tf.Variable([2.0], name='b'))
    return made.variables

  other = module('z', 'y')
  restore('model', other, {'model/a': np.ones(1, 'f'), 'model/b': np.zeros(1, 'f')})
  assert {v.name: v.numpy().item() for v in other} == {'a:0': 1, 'b:0': 0}


def test_mirrored_variables_have_the_keys_of_single_ones():
  with tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).scope():
    mirrored = [tf.Variable([1.0, 2.0], name='kernel')]
    mirrored += optimizer.make_optimizer(TrainConfig(), mirrored).variables
  single = [tf.Variable([3.0, 4.0], name='kernel')]
  single += optimizer.make_optimizer(TrainConfig(), single).variables
  restore('one', mirrored, collect('one', single))
  for replica in mirrored[0].values:
    np.testing.assert_array_equal(replica, [3.0, 4.0])


def test_two_variables_for_one_key_are_our_mistake():
  with pytest.raises(AssertionError, match=r'two variables for model/a: a:0 \(2,\) and a:0 \(3,\)'):
    collect('model', [tf.Variable([1.0, 2.0], name='a'), tf.Variable([1.0, 2.0, 3.0], name='a')])


def test_the_carry_is_kept_by_layer():
  carry = (np.zeros(1), (np.zeros(2), np.zeros(3)))
  keys = carry_keys(carry)
  assert keys == ['carry/0/0', 'carry/1/0', 'carry/1/1']
  assert [len(part) for part in tf.nest.flatten(carry)] == [1, 2, 3]
  assert len(carry_keys((carry[0],) * 12)) == 12


def rewrite(path, change):
  """Saves a checkpoint anew with a changed state, as another version of charlm would have."""
  with np.load(path) as archive:
    arrays = {name: archive[name] for name in archive.files if name != 'digest'}
  content = json.dumps(change(json.loads(arrays.pop('state').tobytes()))).encode()
  digest = checkpoint._digest(arrays, content)
  np.savez(path, state=np.frombuffer(content, np.uint8), digest=np.frombuffer(digest, np.uint8), **arrays)


def older(state):
  """Format 1 had neither number."""
  return {name: value for name, value in state.items() if name not in ('format_version', 'charlm_version')}


def newer(state):
  return state | {'format_version': checkpoint.FORMAT_VERSION + 1, 'charlm_version': '9.8.7'}


OTHER_FORMATS = [(older, ['an older charlm', 'in format 1', 'Use the charlm that saved it', 'train again']),
                 (newer, ['a newer charlm', f'in format {checkpoint.FORMAT_VERSION + 1}', 'Use charlm 9.8.7'])]


def test_a_file_says_its_format(tmp_path):
  save(tmp_path, 1)
  with np.load(checkpoint.saved(tmp_path)[0]) as archive:
    assert json.loads(archive['state'].tobytes())['format_version'] == checkpoint.FORMAT_VERSION


@pytest.mark.parametrize('change, words', OTHER_FORMATS)
def test_another_format_is_refused_and_not_fallen_back_from(tmp_path, change, words):
  save(tmp_path, 1)
  save(tmp_path, 2)
  path = checkpoint.saved(tmp_path)[0]
  rewrite(path, change)
  with pytest.raises(UserError) as error:
    checkpoint.newest(tmp_path)
  assert all(word in str(error.value) for word in [str(path), *words]) and '\n' not in str(error.value)


@pytest.mark.parametrize('change, words', OTHER_FORMATS)
@pytest.mark.parametrize('command', [
    lambda workdir: train.run(['charlm-train', f'--workdir={workdir}']),
    lambda workdir: evaluate.run(['charlm-evaluate', f'--workdir={workdir}']),
    lambda workdir: sample.run(['charlm-sample', f'--workdir={workdir}']),
    lambda workdir: export.run(['charlm-export', f'--workdir={workdir}', f'--export_dir={workdir}/served'])],
    ids=['train', 'evaluate', 'sample', 'export'])
def test_each_command_refuses_another_format_in_one_line(finished, tmp_path, capsys, command, change, words):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  for path in (workdir / 'checkpoints').iterdir():
    rewrite(path, change)
  with pytest.raises(SystemExit) as exit_:
    command(workdir)
  assert exit_.value.code == 2
  error = complaint(capsys.readouterr().err)
  assert all(word in error for word in words), error


def test_all_checkpoints_damaged(finished, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  for path in checkpoint.saved(workdir):
    os.truncate(path, 10)
  with pytest.raises(RunError, match='none of its 2'):
    checkpoint.newest(workdir, warn=lambda text: None)
