"""Checkpoints: one file each, whole or not at all, with everything that the next step depends on.

    WORKDIR/checkpoints/step-00001500.npz   the newest two, to resume from
    WORKDIR/checkpoints/best.npz            the weights with the lowest validation loss

A file is a NumPy archive of these arrays:

    model/recurrent_0_kernel, optimizer/...   of each variable, by its path
    carry/0/0                                 the recurrent state, by layer and part
    state                                     JSON of the rest: format version, step, position in the text, ...
    digest                                    SHA-256 of all others, so that damage is noticed
"""
import hashlib
import json
import pathlib
import re
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

import charlm
from data_pipeline import atomic
from data_pipeline.token_files import TokenFile
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError

# Raise it when what is in a file changes. `state` and `digest` stay: the version is read by them. Format 1 has none.
FORMAT_VERSION = 2
KEEP = 2
# What zipfile and NumPy's reader of headers raise for damaged bytes.
DAMAGE = (ValueError, KeyError, EOFError, RuntimeError, TypeError, SyntaxError, tokenize.TokenError,
          zipfile.BadZipFile, zlib.error)

Arrays = dict[str, np.ndarray]
State = dict[str, Any]


def write(path: str | pathlib.Path, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
  """Writes a checkpoint.

  Args:
    path: of the file, in WORKDIR/checkpoints, which is made where it is missing.
    arrays: by key.
    state: what JSON can hold.

  Raises:
    RunError: it could not be written; then the file is as it was.
  """
  path = pathlib.Path(path)
  versions = {'format_version': FORMAT_VERSION, 'charlm_version': charlm.__version__}
  content = json.dumps(versions | dict(state)).encode()
  entries: dict[str, Any] = {**arrays, 'state': np.frombuffer(content, np.uint8),
                             'digest': np.frombuffer(_digest(arrays, content), np.uint8)}
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as file:
      np.savez(file, **entries)
  except OSError as error:
    last = saved(path.parent.parent)
    raise RunError(f'{path}: the checkpoint could not be saved ({error.strerror or error}). '
                   f'{f"The last good one is {last[0]}" if last else "There is none yet"}. '
                   'Make room, then run the same command again') from error


def _digest(arrays: Mapping[str, np.ndarray], content: bytes) -> bytes:
  digest = hashlib.sha256(content)
  for name in sorted(arrays):
    digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}'.encode())
    digest.update(np.ascontiguousarray(arrays[name]).data)
  return digest.digest()


def read(path: str | pathlib.Path) -> tuple[Arrays, State]:
  """Reads a checkpoint -> its arrays by key, and its state.

  Raises:
    RunError: the file is damaged, or cannot be read.
    UserError: its format is older or newer than the one of this charlm.
  """
  try:
    with np.load(path) as archive:
      arrays = {name: archive[name] for name in archive.files}
    content, digest = (arrays.pop(name).tobytes() for name in ('state', 'digest'))
  except (OSError, MemoryError) as error:  # damaged sizes may raise these, too
    raise RunError(f'{path}: the checkpoint cannot be read ({getattr(error, "strerror", None) or error})') from error
  except DAMAGE as error:
    raise RunError(f'{path}: the checkpoint is damaged ({error})') from error
  if digest != _digest(arrays, content):
    raise RunError(f'{path}: the checkpoint is damaged (its contents are not those that were saved)')
  state = json.loads(content)
  _check_format(path, state.pop('format_version', 1), state.pop('charlm_version', ''))
  return arrays, state


def _check_format(path: str | pathlib.Path, version: int, writer: str) -> None:
  if version == FORMAT_VERSION:
    return
  age, remedy = (('an older', f'Use the charlm that saved it{writer and f", {writer},"}') if version < FORMAT_VERSION
                 else ('a newer', f'Use charlm {writer} or a newer one'))
  raise UserError(f'{path}: {age} charlm saved this checkpoint, in format {version}; expected format {FORMAT_VERSION}, '
                  f'which charlm {charlm.__version__} reads. {remedy}, or train again in another folder')


def saved(workdir: str | pathlib.Path) -> list[pathlib.Path]:
  """The checkpoints to resume from, newest first."""
  return sorted(pathlib.Path(workdir, 'checkpoints').glob('step-*.npz'), reverse=True)


def best_path(workdir: str | pathlib.Path) -> pathlib.Path:
  """Where the weights with the lowest validation loss are, once there are any."""
  return pathlib.Path(workdir, 'checkpoints', 'best.npz')


def save(workdir: str | pathlib.Path, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
  """Adds the checkpoint of a step and removes the oldest.

  Raises:
    RunError: it could not be written; then the last good ones stay.
  """
  for unfinished in pathlib.Path(workdir, 'checkpoints').glob('.*.tmp'):  # left by a kill
    unfinished.unlink()
  write(pathlib.Path(workdir, 'checkpoints', f'step-{step:08d}.npz'), arrays, state)
  for path in saved(workdir):  # newer ones are damaged: the run went back beyond them
    if int(path.stem.partition('-')[2]) > step:
      path.unlink()
  for path in saved(workdir)[KEEP:]:
    path.unlink()


def newest(workdir: str | pathlib.Path, warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
           ) -> tuple[Arrays, State] | None:
  """Reads the newest checkpoint that is whole -> its arrays and state, or None where there is no checkpoint.

  Args:
    workdir: the folder of the run.
    warn: is told of each damaged one.

  Raises:
    RunError: there are checkpoints, and none can be read.
    UserError: the format of one is older or newer than the one of this charlm.
  """
  paths = saved(workdir)
  for path in paths:
    try:
      return read(path)
    except RunError as error:
      warn(f'warning: {error}; going back to the one before')
  if paths:
    raise RunError(f'--workdir={workdir}: none of its {len(paths)} checkpoints can be read. Start again in '
                   'another folder')
  return None


def identity(tokenizer: Tokenizer, files: Mapping[str, TokenFile]) -> State:
  """What a checkpoint belongs to, {name: value}. files: {split: TokenFile}."""
  return {'vocab_size': tokenizer.vocab_size, 'tokenizer': tokenizer.fingerprint, 'text': files['train'].content}


def check_identity(workdir: str | pathlib.Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
  """Compares what a run has now with the state of its checkpoint.

  Raises:
    UserError: the checkpoint belongs to another tokenizer or text.
  """
  for name, value in identity.items():
    if state[name] != value:
      was, now = (f'{v[:8]}...' if isinstance(v, str) else v for v in (state[name], value))
      raise UserError(f'--workdir={workdir}: its checkpoint of step {state["step"]} was trained with another {name} '
                      f'({was}, now {now}). Bring that back, or start in another folder')


def check_state(workdir: str | pathlib.Path, state: Mapping[str, Any], like: Mapping[str, Any]) -> None:
  """Compares the state of a checkpoint with one that has the same values, of the same types.

  Args:
    workdir: the folder of the run.
    state: of the checkpoint.
    like: the other one. None stands for a number that is not known yet.

  Raises:
    UserError: a value is missing, or of another type.
  """
  for name, value in like.items():
    if not _is_like(state.get(name), value):
      raise UserError(f'--workdir={workdir}: the state in its checkpoint has {name}={str(state.get(name))[:80]!r}; '
                      f'expected a value such as {value!r}. Bring back the checkpoint that charlm-train saved')


def _is_like(value: Any, like: Any) -> bool:
  if isinstance(like, dict):
    return isinstance(value, dict) and all(_is_like(value.get(name), like[name]) for name in like)
  if isinstance(like, list):
    return isinstance(value, list) and all(_is_like(number, 0.0) for number in value)
  if isinstance(like, str):
    return isinstance(value, str)
  if isinstance(like, int):
    return type(value) is int and 0 <= value < 2**63
  return (value is None and like is None) or (type(value) in (int, float) and abs(value) < sys.float_info.max)


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
