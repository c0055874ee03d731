"""Which backend --recurrence gets."""
import pytest
import tensorflow as tf

from charlm.network.backend import choice
from charlm.network.backend.native import NativeBackend
from charlm.network.backend.xla import XlaBackend
from flags.errors import UserError
from flags.network import ModelConfig


@pytest.mark.parametrize('other', [dict(cell='lstm'), dict(layer_norm=False), dict(norm='joint'),
                                   dict(compute_dtype='bfloat16')], ids=str)
def test_native_kernels_are_for_what_they_compute(other, monkeypatch, capsys):
  monkeypatch.setattr(choice, '_unavailable', lambda: '')
  assert isinstance(choice.choose('auto', ModelConfig()), NativeBackend)
  assert isinstance(choice.choose('auto', ModelConfig(**other)), XlaBackend)
  assert not capsys.readouterr().err
  (name, value), = other.items()
  with pytest.raises(UserError, match=f'^--recurrence=native: expected .* not --{name}={value}$'):
    choice.choose('native', ModelConfig(**other))


def test_kernels_are_taken_where_they_are_and_missed_aloud(monkeypatch, capsys):
  choice._notice.cache_clear()
  monkeypatch.setattr(choice, '_unavailable', lambda: '')
  kinds = [type(choice.choose(recurrence, ModelConfig())) for recurrence in ('auto', 'native', 'xla')]
  assert kinds == [NativeBackend, NativeBackend, XlaBackend]
  assert not capsys.readouterr().err
  monkeypatch.setattr(choice, '_unavailable', lambda: 'they are not built')
  assert {type(choice.choose(recurrence, ModelConfig())) for recurrence in ('auto', 'xla')} == {XlaBackend}
  assert capsys.readouterr().err.splitlines() == [
    'notice: going on without the native kernels, which are faster: they are not built']
  with pytest.raises(UserError, match='--recurrence=native: expected native kernels, but they are not built'):
    choice.choose('native', ModelConfig())


@pytest.mark.parametrize('platform', ['GPU', 'TPU'])
def test_layers_are_written_for_the_platform(platform, monkeypatch, capsys):
  monkeypatch.setattr(choice, '_unavailable', lambda: '')
  for recurrence in 'auto', 'xla':
    assert choice.choose(recurrence, ModelConfig(), platform) == XlaBackend('float32', platform)
  assert not capsys.readouterr().err
  with pytest.raises(UserError, match=f'^--recurrence=native: expected .* for CPUs, and there is a {platform}$'):
    choice.choose('native', ModelConfig(), platform)


def test_a_gpu_is_found(monkeypatch):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [kind] if kind == 'GPU' else [])
  assert choice.choose('auto', ModelConfig()) == XlaBackend('float32', 'GPU')


def test_full_float32_is_asked_of_tensorflow(monkeypatch):
  """The native kernels compute nothing else."""
  monkeypatch.setattr(choice, '_unavailable', lambda: '')
  for dtype, fast in ('full_float32', False), ('float32', True):
    assert isinstance(choice.choose('auto', ModelConfig(compute_dtype=dtype), 'CPU'), NativeBackend)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == fast
