"""Two virtual CPU devices stand for two accelerators; caches go to a temporary folder."""
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True, scope='session')
def cache(tmp_path_factory):
  """Tests share a cache of tokens with each other and with no one else."""
  os.environ['XDG_CACHE_HOME'] = str(tmp_path_factory.mktemp('cache'))
