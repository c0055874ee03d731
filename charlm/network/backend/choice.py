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

NATIVE = dict(cell='gru', layer_norm=True, norm='separate', compute_dtype='float32')  # what the kernels compute


def choose(recurrence: str, config: ModelConfig) -> Backend:
  """The backend of a model.

  Args:
    recurrence: of --recurrence. native asks for the kernels; auto takes them where they are, and says so where they
      are not; xla does without.
    config: of the model.

  Raises UserError where --recurrence=native cannot be had.
  """
  unsuited = _unsuited(config)
  problem = '' if recurrence == 'xla' else unsuited or _unavailable()
  if problem and recurrence == 'native':
    raise UserError(f'--recurrence=native: expected native kernels, but {problem}')
  if problem and not unsuited:
    _notice(problem)
  return XlaBackend(config.compute_dtype) if problem or recurrence == 'xla' else NativeBackend()


def _unsuited(config: ModelConfig) -> str:
  """Why the kernels cannot compute this model, '' where they can. A user cannot mend that, so it gets no notice."""
  for name, value in NATIVE.items():
    if getattr(config, name) != value:
      return f'they compute with --{name}={value}, not --{name}={getattr(config, name)}'
  return 'they are for CPUs, and there is a GPU' if tf.config.list_physical_devices('GPU') else ''


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
