"""Native CPU kernels (kernels/), called from XLA programs; nothing outside jit-compiled functions can use them.

They are built at install where there is a C++ compiler. XLA runs the many small loops of a recurrent step one by one;
here the rows are split over threads, and gates and norms follow the product while it is in the cache. Exported models
never use them.
"""
import ctypes
import functools
import pathlib
import struct
import sysconfig
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from charlm.network import runtime
from charlm.network.cells import Mask
from charlm.network.recurrence import Lookup

LIBRARY = pathlib.Path(__file__).with_name(f'_kernels{sysconfig.get_config_var("EXT_SUFFIX")}')
VERSION = 3  # of the calls' arguments, here and in kernels.cc
REGISTRY = '_ZN3xla24CustomCallTargetRegistry'  # xla::CustomCallTargetRegistry
WIDEST_PANEL = 48  # columns that a product takes at once, with the widest vectors
FAILURE = 'native kernel product: rows: expected 1 to 2147483647, got -1'  # of `failing_call`
STRING = 'NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE'  # std::string


@functools.cache
def register() -> tuple[list[str], str]:
  """Tells XLA of the kernels.

  Returns: the instruction sets that this machine can run, best first; why there are none, or ''.
  """
  if not LIBRARY.exists():
    return [], 'they are not built; install again with a C++ compiler on the path'
  try:
    from tensorflow.compiler.tf2xla.python import xla  # noqa: F401, for _call
    tensorflow = ctypes.CDLL(str(pathlib.Path(tf.sysconfig.get_lib()) / 'libtensorflow_cc.so.2'))
    registry, add = tensorflow[f'{REGISTRY}6GlobalEv'], tensorflow[f'{REGISTRY}8RegisterERK{STRING}PvS8_']
    call = getattr(ctypes.CDLL(str(LIBRARY)), f'charlm_register_{VERSION}')
  except (ImportError, OSError, AttributeError) as error:  # another TensorFlow, or kernels of another version
    return [], str(error)
  call.restype = ctypes.c_char_p
  return call(registry, add).decode().split(), ''


def _call(name: str, operands: Sequence[tf.Tensor], shapes: Sequence[tuple], *numbers: float) -> list[tf.Tensor]:
  """The results, float32 of `shapes`, of a kernel; `numbers` as kernels/arguments.h reads them."""
  from tensorflow.compiler.tf2xla.python import xla  # which not every TensorFlow need have
  results = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
  text = ' '.join(str(_float_bits(n) if isinstance(n, float) else int(n)) for n in (runtime.threads(), *numbers))
  return xla.custom_call_v2(f'charlm_{register()[0][0]}_{name}', operands, results, backend_config=text)


def failing_call() -> tf.Tensor:
  """A product whose sizes are no sizes: it raises tf.errors.InternalError, with FAILURE in its words."""
  return _call('product', [tf.zeros([1, 1])] * 2, [(1, 1)], -1, 1, 1, False)[0]


def _float_bits(number: float) -> int:
  return struct.unpack('<I', struct.pack('<f', number))[0]


@tf.function(jit_compile=True, autograph=False)
def _pack(b: tf.Tensor) -> tf.Tensor:
  """b [m, k] as the products of few rows read it; no instruction set needs a longer array."""
  m, k = b.shape
  return _call('pack', [b], [(m * -(-k // WIDEST_PANEL) * WIDEST_PANEL,)], m, k)[0]


def fixed_product(b: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
  """`matmul` of a few rows a [n, m] by the same b [m, k] each time: b is packed here, once.

  Returns: a function: a -> a b [n, k].
  """
  packed, (m, k) = _pack(b), b.shape
  return lambda a: _call('packed_product', [a, packed], [(a.shape[0], k)], a.shape[0], m, k)[0]


def fixed_map(W: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor,
              groups: Sequence[int]) -> Callable[[tf.Tensor], tf.Tensor]:
  """`linear_map` of a few rows x [n, m] with the same weights each time, as a function of x."""
  packed, (m, k) = _pack(W), W.shape
  return lambda x: _call('packed_linear_map', [x, packed, gain, bias], [(x.shape[0], k)], x.shape[0], m, k,
                         len(groups), *groups)[0]


def fixed_gru(U: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor,
              factors: Sequence[float]) -> Callable[[Any, tf.Tensor], tf.Tensor]:
  """`gru` for one token of a few rows with the same weights each time.

  Args:
    U, gain, bias: as of `gru`.
    factors: one number for each mask, in place of it.

  Returns: a function: x [B, 3H] or a Lookup of tokens [B], state [B, H] -> state after the token.
  """
  packed = _pack(U)

  def step(x: Any, state: tf.Tensor) -> tf.Tensor:
    x, tokens, table_rows = _projections(x)
    more = [] if tokens is None else [tokens]
    return _call('gru_step', [x, state, packed, gain, bias, *more], [state.shape], 1, *state.shape, table_rows,
                 *map(float, factors), False, False)[0]

  return step


@tf.custom_gradient
def matmul(a: tf.Tensor, b: tf.Tensor) -> Any:
  """a [n, m], b [m, k] -> a b [n, k], float32. All shapes in this file are static."""
  (n, m), k = a.shape, b.shape[1]
  return _call('product', [a, b], [(n, k)], n, m, k, False)[0], lambda dc: _product_gradient(a, b, dc)


def _product_gradient(a: tf.Tensor, b: tf.Tensor, dc: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  (n, m), k = a.shape, b.shape[1]
  return (_call('product', [dc, b], [(n, m)], n, k, m, True)[0],
          _call('transposed_product', [a, dc], [(m, k)], m, n, k)[0])


def linear_map(x: tf.Tensor, W: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor, groups: Sequence[int], *,
               differentiable: bool) -> tf.Tensor:
  """A linear map with layer norm: LN(x W; gain) + bias [n, k], float32.

  Args:
    x: [n, m].
    W: [m, k], centred.
    gain, bias: [k].
    groups: columns that layer norm takes together, 8 groups at most; their sum is k.
    differentiable: whether the gradient will be taken; what it needs is not kept otherwise.
  """
  (n, m), columns, norm_groups = x.shape, W.shape[1], (len(groups), *groups)

  @tf.custom_gradient
  def call(x: tf.Tensor, W: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tuple]]:
    shapes = [(n, columns), (n, columns), (n, len(groups))] if differentiable else [(n, columns)]
    y, *residue = _call('linear_map', [x, W, gain, bias], shapes, n, m, columns, differentiable, *norm_groups)

    def gradient(dy: tf.Tensor) -> tuple:
      assert differentiable, 'the gradient of a map that keeps nothing for it'
      dproduct, dgain, dbias = _call('linear_map_gradient', [dy, *residue, gain],
                                     [(n, columns), gain.shape, bias.shape], n, columns, *norm_groups)
      return (*_product_gradient(x, W, dproduct), dgain, dbias)

    return y, gradient

  return call(x, W, gain, bias)


def _projections(x: Any) -> tuple[tf.Tensor, tf.Tensor | None, int]:
  """[.., 3H], or a Lookup in a table [V, 3H] -> the array, tokens or None, and V, or 0 where it is no table."""
  if isinstance(x, Lookup):
    return x.table, x.ids, x.table.shape[0]
  return x, None, 0


def gru(x: tf.Tensor | Lookup, start: tf.Tensor, U: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor,
        masks: Sequence[Mask], *, differentiable: bool) -> tf.Tensor:
  """A recurrent layer of `cells.GRU`, float32: the states after each token [T, B, H].

  Args:
    x: projections [T, B, 3H], or a Lookup of them.
    start: state before the first token [B, H].
    U: [H, 3H], centred.
    gain: [3H].
    bias: [H].
    masks: of the update gate and of the candidate.
    differentiable: whether the gradient will be taken, once; what it needs is not kept otherwise.
  """
  x, tokens, table_rows = _projections(x)
  steps, batch = x.shape[:2] if tokens is None else tokens.shape
  units = U.shape[0]
  more = [t for t in (tokens, *(mask.keep for mask in masks)) if t is not None]
  numbers = (steps, batch, units, table_rows, *(float(mask.scale) for mask in masks),
             *(mask.keep is not None for mask in masks))

  @tf.custom_gradient
  def layer(x: tf.Tensor, start: tf.Tensor, U: tf.Tensor, gain: tf.Tensor,
            bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., list[tf.Tensor]]]:
    shapes = [(steps, batch, units)]
    if differentiable:
      shapes += [(steps, batch, 6 * units), (steps, batch, 2)]
    states, *residue = _call('gru_forward', [x, start, U, gain, bias, *more], shapes, differentiable, *numbers)

    def gradient(dstates: tf.Tensor) -> list[tf.Tensor]:
      assert differentiable, 'the gradient of a layer that keeps nothing for it'
      return _call('gru_backward', [dstates, start, states, *residue, U, gain, bias, *more],
                   [x.shape, start.shape, U.shape, gain.shape, bias.shape], *numbers)

    return states, gradient

  return layer(x, start, U, gain, bias)
