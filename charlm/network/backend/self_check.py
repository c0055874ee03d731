"""The native kernels prove themselves before they are used.

TensorFlow is open to later versions, its registry of custom calls is found by a mangled name, and the layout of their
status is its own affair. So a child process computes a linear map and a GRU layer, values and gradients, by the kernels
and by XLA, and compares them; and it makes a call that must fail. A wrong answer, a crash or a hang becomes a line, and
charlm goes on without the kernels.

The verdict is kept in the cache, for this TensorFlow, this library and this processor. Nothing is computed here, in the
process that asks.
"""
import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from flags.errors import UserError
from flags.paths import cache_root

# The arguments are the paths of this process: modules of the same name in the current folder have no say. TensorFlow
# asks for a folder for temporary files, and imports matplotlib, which wants one, too: there may be none, and no need.
PROGRAM = ('import sys, tempfile\n'
           'sys.path[:] = sys.argv[1:]; tempfile.tempdir = "/"; sys.modules["matplotlib"] = None\n'
           'from charlm.network.backend import self_check; print(self_check.compare())')
COMMAND = [sys.executable, '-c', PROGRAM]
SECONDS = 120  # for the child, of which the import of TensorFlow takes four
# How a process ends by a fault of its own. By another signal it was ended from outside, such as for want of memory.
CRASHES = 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGSEGV', 'SIGTRAP'
SOUND = 'sound'
TOLERANCE = 1e-4  # of the largest number of a tensor, in float32
STEPS, ROWS, UNITS = 4, 3, 40


@functools.cache
def problem(library: pathlib.Path) -> str:
  """What is wrong with the kernels in this library, in a line; '' where nothing is."""
  kept = _cache() / 'self_check' / _key(library)
  verdict = _read(kept) or _run(kept)
  return '' if verdict == SOUND else verdict


def _cache() -> pathlib.Path:
  """The folder of the cache; where there is none, one that cannot be."""
  try:
    return cache_root()
  except UserError:
    return pathlib.Path(os.devnull)


def _key(library: pathlib.Path) -> str:
  """A name for the verdict that changes with TensorFlow, the library, the processor and this check."""
  import tensorflow as tf  # whose package may be tensorflow-cpu, tensorflow-tpu or tf-nightly
  cpu: Any = platform.processor()
  with contextlib.suppress(OSError):
    cpu = re.findall(r'^flags.*$', pathlib.Path('/proc/cpuinfo').read_text(), re.MULTILINE)[:1]
  facts = tf.__version__, platform.machine(), cpu, sys.version
  digest = hashlib.sha256(repr(facts).encode())
  for path in library, pathlib.Path(__file__):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:32]


def _read(kept: pathlib.Path) -> str:
  """The verdict that was kept, '' where there is none, or not the whole of it."""
  try:
    text = kept.read_text()
  except OSError:
    return ''
  return text[:-1] if text.endswith('\n') else ''


def _run(kept: pathlib.Path) -> str:
  """The verdict of the child.

  It is kept where another child would come to the same: it has compared, or crashed. Without a cache to write to, the
  child runs each time.
  """
  try:
    child = subprocess.run([*COMMAND, *sys.path], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=SECONDS, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'}, check=False)
  except subprocess.TimeoutExpired:
    return f'their self-check took more than {SECONDS} seconds'
  except OSError as error:
    return f'their self-check cannot be run ({error.strerror})'
  lines, errors = child.stdout.splitlines(), child.stderr.splitlines()
  if child.returncode < 0:
    name = signal.Signals(-child.returncode).name
    verdict = f'their self-check crashed ({name})'
    if name not in CRASHES:
      return verdict
  elif child.returncode or not lines:
    return f'their self-check failed ({errors[-1] if errors else child.returncode})'
  else:
    verdict = lines[-1]
  with contextlib.suppress(OSError):
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(verdict + '\n')
  return verdict


# What follows runs in the child process.


def compare() -> str:
  """SOUND, or which result of the kernels is not that of XLA."""
  from charlm.network.backend import kernels
  from charlm.network.backend.native import NativeBackend
  from charlm.network.backend.xla import XlaBackend
  missing = kernels.register()[1]
  if missing:
    return missing
  for name, compute in (('a linear map', _linear_map), ('a GRU layer', _gru_layer)):
    found, wanted = (compute(backend) for backend in (NativeBackend(), XlaBackend()))
    for i, (got, want) in enumerate(zip(found, wanted, strict=True)):
      error, size = abs(got - want).max(), abs(want).max()
      if not error <= TOLERANCE * size:
        return f'{name} by the kernels is wrong (result {i} is off by {error:.3g} of {size:.3g})'
  return SOUND if _failure_is_seen() else 'this TensorFlow does not see when they fail'


def _failure_is_seen() -> bool:
  """Whether a call that fails raises an error with its message, which goes through a structure of TensorFlow's own."""
  import tensorflow as tf

  from charlm.network.backend import kernels
  try:
    tf.function(kernels.failing_call, jit_compile=True, autograph=False)()
  except tf.errors.InternalError as error:
    return kernels.FAILURE in error.message
  return False


def _with_gradients(function: Callable[..., Any], shapes: list[tuple]) -> list[Any]:
  """-> the result of a compiled function of random tensors of these shapes, and the gradient of each of them."""
  import numpy as np
  import tensorflow as tf
  random = np.random.default_rng(0)

  @tf.function(jit_compile=True, autograph=False)
  def run(*given: Any) -> list[Any]:
    with tf.GradientTape() as tape:
      tape.watch(given)
      result = function(*given)
      loss = tf.reduce_sum(result * tf.sin(result))
    return [result, *tape.gradient(loss, given)]

  return [t.numpy() for t in run(*(tf.constant(random.normal(size=shape), tf.float32) for shape in shapes))]


def _linear_map(backend: Any) -> list[Any]:
  from charlm.network.backend.base import LinearWeights
  from charlm.network.normalization import centre
  groups = (2 * UNITS, UNITS)

  def call(x: Any, W: Any, gain: Any, bias: Any) -> Any:
    return backend.linear(LinearWeights('separate', groups, centre(W, groups), gain, bias))(x)

  return _with_gradients(call, [(ROWS, UNITS), (UNITS, sum(groups)), (sum(groups),), (sum(groups),)])


def _gru_layer(backend: Any) -> list[Any]:
  import numpy as np
  import tensorflow as tf

  from charlm.network.cells import GRU, Mask
  from charlm.network.recurrence import Weights
  keep = np.random.default_rng(1).random((2, STEPS, ROWS, UNITS)) < 0.7
  masks = [Mask(tf.constant(keep[0])), Mask(tf.constant(keep[1]), 1 / 0.7)]

  def call(x: Any, state: Any, U: Any, gain: Any, bias: Any) -> Any:
    return backend.recurrent(GRU, 'separate', Weights(U, gain, bias), lambda shape: masks)(x, state, None)[0]

  return _with_gradients(call, [(STEPS, ROWS, 3 * UNITS), (ROWS, UNITS), (UNITS, 3 * UNITS), (3 * UNITS,), (UNITS,)])

