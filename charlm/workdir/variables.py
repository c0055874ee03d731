"""Variables and their arrays in a checkpoint, by key: `PREFIX/PATH`, whatever place a variable has among the others."""
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flags.errors import UserError

Arrays = dict[str, np.ndarray]


def collect(prefix: str, variables: Iterable[Any]) -> Arrays:
  """Values of variables (of TensorFlow or Keras) by key, such as `model/embedding` for the prefix `model`."""
  return {key: variable.numpy() for key, variable in _by_key(prefix, variables).items()}


def restore(prefix: str, variables: Iterable[Any], arrays: Mapping[str, np.ndarray]) -> None:
  """Assigns to the variables what `collect` found in them.

  Raises:
    UserError: the arrays of this prefix are those of other variables, or not finite.
  """
  by_key = _by_key(prefix, variables)
  check_arrays(prefix, arrays, by_key)
  for key, variable in by_key.items():
    variable.assign(arrays[key])


def check_arrays(prefix: str, arrays: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> None:
  """Compares the arrays of a checkpoint with what a run has.

  Args:
    prefix: of the keys that are compared.
    arrays: of the checkpoint.
    like: {key: array or variable} that the run has.

  Raises:
    UserError: an array is missing, is one too many, has another type or shape, or is not finite.
  """
  found = {key: _kind(array) for key, array in arrays.items() if key.startswith(f'{prefix}/')}
  kinds = {key: _kind(array) for key, array in like.items()}
  differing = [key for key in sorted(found.keys() | kinds.keys()) if found.get(key) != kinds.get(key)]
  if differing:
    first = differing[0]
    raise UserError(f'the checkpoint holds another {prefix} than config.json asks for: {len(differing)} arrays differ, '
                    f'first {first}, {found.get(first, "none")}, expected {kinds.get(first, "none")}. Bring the files '
                    'back that belong together')
  for key in found:
    if not np.isfinite(arrays[key]).all():
      raise UserError(f'the checkpoint holds numbers that are not finite in {key}. Bring back one that charlm-train '
                      'saved')


def _kind(array: Any) -> str:
  """Type and shape of an array or a variable, in words."""
  return f'{getattr(array.dtype, "name", array.dtype)} of shape {tuple(array.shape)}'


def _by_key(prefix: str, variables: Iterable[Any]) -> dict[str, Any]:
  """{key: variable}. The key is prefix and path, whatever place the variable has among the others."""
  by_key: dict[str, Any] = {}
  for variable in variables:
    path = (getattr(variable, 'path', None) or variable.name).removesuffix(':0').removeprefix(f'{prefix}/')
    # Keras numbers variables without a name by what else the process has made.
    key = f'{prefix}/{re.sub(r"^variable_[0-9]+$", "variable", path)}'
    assert key not in by_key, f'two variables for {key}: {_described(by_key[key])} and {_described(variable)}'
    by_key[key] = variable
  return by_key


def _described(variable: Any) -> str:
  return f'{variable.name} {tuple(variable.shape)}'


def carry_keys(carry: tuple) -> list[str]:
  """The keys of a recurrent state, `carry/LAYER/PART`, in the order of tf.nest.flatten.

  Args:
    carry: an entry for each layer: one tensor, or a tuple of its parts.
  """
  parts = [len(layer) if isinstance(layer, tuple) else 1 for layer in carry]
  return [f'carry/{i}/{j}' for i, count in enumerate(parts) for j in range(count)]
