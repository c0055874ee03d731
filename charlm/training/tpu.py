"""The TPU that --strategy=tpu computes on."""
import socket
import textwrap
import urllib.parse

import tensorflow as tf

from flags.errors import UserError

SECONDS = 10  # that a worker has to answer; TensorFlow itself would wait for minutes


def connect(name: str) -> tf.distribute.TPUStrategy:
  """Takes a TPU, and forgets all that was on it. Call it before anything computes.

  Args:
    name: of --tpu.

  Raises UserError where there is none that TensorFlow can use.
  """
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
    if name != 'local':
      _reach(resolver.master())
      tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
  except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
    reason = textwrap.shorten(str(error).split('<stack traces unavailable>')[-1], 120)
    raise UserError(f'--tpu={name}: expected a TPU that TensorFlow can use ({reason}). The package tensorflow-tpu, in '
                    'the place of tensorflow, has what it takes; see docs/accelerators.md') from error
  return tf.distribute.TPUStrategy(resolver)


def _reach(address: str) -> None:
  """Raises OSError or ValueError where no worker listens at an address such as grpc://10.0.0.2:8470."""
  found = urllib.parse.urlsplit(address)
  if not found.hostname or not found.port:
    raise ValueError(f'{address}: no address such as grpc://10.0.0.2:8470')
  socket.create_connection((found.hostname, found.port), timeout=SECONDS).close()
