"""Two virtual CPU devices stand for two accelerators; caches go to a temporary folder; a small run that tests share."""
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Most of the time of tests goes into compiling steps that run a few times.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false')
if 'PYTEST_XDIST_WORKER' in os.environ:  # as many workers as cores: more threads would wait for each other
  os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')

import pytest
import tensorflow as tf

import runs
from charlm.commands import train

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True, scope='session')
def cache(tmp_path_factory):
  """Tests share a cache of tokens with each other and with no one else."""
  os.environ['XDG_CACHE_HOME'] = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
  """The text of a small run."""
  path = tmp_path_factory.mktemp('corpus') / 'times.txt'
  path.write_text(runs.TEXT)
  return str(path)


@pytest.fixture(scope='session')
def finished(cache, corpus, tmp_path_factory):
  """The workdir of a small run that was never stopped. Tests leave it as it is."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  train.run(runs.flags(corpus, workdir))
  return workdir
