"""Which backend computes a model."""
import functools
import sys

import tensorflow as tf

from charlm.network import runtime
from charlm.network.backend import kernels, self_check
from charlm.network.backend.base import Backend
from charlm.network.backend.native import NativeBackend
from charlm.network.backend.xla import XlaBackend
from flags.errors import UserError
from flags.network import ModelConfig

# What the kernels compute.
NATIVE = dict(cell=('gru',), layer_norm=(True,), norm=('separate',), compute_dtype=('float32', 'full_float32'))


def choose(recurrence: str, config: ModelConfig, platform: str = '') -> Backend:
  """The backend of a model. Sets how this process multiplies float32 numbers, see --compute_dtype.

  Args:
    recurrence: of --recurrence. native asks for the kernels; auto takes them where they are, and says so where they
      are not; xla does without.
    config: of the model.
    platform: CPU, GPU or TPU; by default what all strategies compute on, GPUs where there are any.

  Raises UserError where --recurrence=native cannot be had.
  """
  platform = platform or ('GPU' if tf.config.list_physical_devices('GPU') else 'CPU')
  tf.config.experimental.enable_tensor_float_32_execution(config.compute_dtype != 'full_float32')
  unsuited = _unsuited(config, platform)
  problem = '' if recurrence == 'xla' else unsuited or _unavailable()
  if problem and recurrence == 'native':
    raise UserError(f'--recurrence=native: expected native kernels, but {problem}')
  if problem and not unsuited:
    _notice(problem)
  return XlaBackend(config.compute_dtype, platform) if problem or recurrence == 'xla' else NativeBackend()


def _unsuited(config: ModelConfig, platform: str) -> str:
  """Why the kernels cannot compute this model, '' where they can. A user cannot mend that, so it gets no notice."""
  for name, values in NATIVE.items():
    if getattr(config, name) not in values:
      return f'they compute with --{name}={values[0]}, not --{name}={getattr(config, name)}'
  return f'they are for CPUs, and there is a {platform}' if platform != 'CPU' else ''


def _unavailable() -> str:
  """Why there are no kernels that can be used, '' where there are. The self-check comes before they are loaded."""
  found = kernels.LIBRARY.exists() and self_check.problem(kernels.LIBRARY)
  return found or kernels.register()[1]


@functools.cache
def _notice(problem: str) -> None:
  print(f'notice: going on without the native kernels, which are faster: {problem}', file=sys.stderr)


def share_cores(backend: Backend, *, resets: bool = False) -> None:
  """Leaves the processor's cores to the kernels, where they do most of the work; before anything is computed.

  resets: whether documents start inside chunks, so that XLA runs the recurrent layers.
  """
  if isinstance(backend, NativeBackend) and not resets:
    runtime.leave_cores_to_kernels()
