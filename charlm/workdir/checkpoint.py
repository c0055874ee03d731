"""Checkpoints: one file each, whole or not at all, with everything that the next step depends on.

    WORKDIR/checkpoints/step-00001500.npz       the newest two, to resume from
    WORKDIR/checkpoints/best.npz                the weights with the lowest validation loss
    WORKDIR/checkpoints/step-00001400.npz.bad   one that was found damaged by a run that went on from another

A file is a NumPy archive of these arrays:

    model/recurrent_0_kernel, optimizer/...   of each variable, by its path
    carry/0/0                                 the recurrent state, by layer and part
    state                                     JSON of the rest: format version, step, position in the text, ...
    digest                                    SHA-256 of all others, so that damage is noticed
"""
import contextlib
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import charlm
from charlm.workdir import archive, names
from charlm.workdir.archive import Damaged
from charlm.workdir.names import Folder
from charlm.workdir.variables import Arrays
from data_pipeline import atomic
from data_pipeline.token_files import TokenFile
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError

# Raise it when what is in a file changes. `state` and `digest` stay: the version is read by them. Format 1 has none.
FORMAT_VERSION = 2
KEEP, BEST = 2, 'best.npz'
State = dict[str, Any]


def write(workdir: Folder, name: str, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
  """Writes a checkpoint.

  Args:
    workdir: the folder of the run, which must be there.
    name: of the file, in WORKDIR/checkpoints.
    arrays: by key.
    state: what JSON can hold.

  Raises:
    RunError: it could not be written; then the file is as it was.
  """
  versions = {'format_version': FORMAT_VERSION, 'charlm_version': charlm.__version__}
  content = json.dumps(versions | dict(state)).encode()
  entries: dict[str, Any] = {**arrays, 'state': np.frombuffer(content, np.uint8),
                             'digest': np.frombuffer(_digest(arrays, content), np.uint8)}
  path = pathlib.Path(workdir, 'checkpoints', name)  # now that all is ready: the folder may be moved at any time
  try:
    atomic.make_folder(path.parent, parents=False)
    with atomic.file(path) as file:
      np.savez(file, **entries)
  except OSError as error:
    last: list[pathlib.Path] = []
    with contextlib.suppress(RunError):  # the disk fails in more than one way
      last = saved(workdir)
    raise RunError(f'{path}: the checkpoint could not be saved ({error.strerror or error}). '
                   f'{f"The last good one is {last[0]}" if last else "There is none yet"}. '
                   'Make room, then run the same command again') from error


def _digest(arrays: Mapping[str, np.ndarray], content: bytes) -> bytes:
  digest = hashlib.sha256(content)
  for name in sorted(arrays):
    digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}'.encode())
    digest.update(np.ascontiguousarray(arrays[name]).data)
  return digest.digest()


def read(path: Folder) -> tuple[Arrays, State]:
  """Reads a checkpoint -> its arrays by key, and its state.

  Raises:
    Damaged: the contents are not those that were saved.
    RunError: the file cannot be read.
    UserError: its format is older or newer than the one of this charlm.
  """
  arrays = archive.read(path)
  try:
    content, digest = (arrays.pop(name).tobytes() for name in ('state', 'digest'))
    whole, state = digest == _digest(arrays, content), json.loads(content)
    version, writer = int(state.pop('format_version', 1)), str(state.pop('charlm_version', ''))
  except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
    raise Damaged(f'{path}: the checkpoint is damaged ({error})') from error
  if not whole:
    raise Damaged(f'{path}: the checkpoint is damaged (its contents are not those that were saved)')
  _check_format(path, version, writer)
  return arrays, state


def _check_format(path: Folder, version: int, writer: str) -> None:
  if version == FORMAT_VERSION:
    return
  age, remedy = (('an older', f'Use the charlm that saved it{writer and f", {writer},"}') if version < FORMAT_VERSION
                 else ('a newer', f'Use charlm {writer} or a newer one'))
  raise UserError(f'{path}: {age} charlm saved this checkpoint, in format {version}; expected format {FORMAT_VERSION}, '
                  f'which charlm {charlm.__version__} reads. {remedy}, or train again in another folder')


def saved(workdir: Folder) -> list[pathlib.Path]:
  """The checkpoints to resume from, newest first. Raises RunError where that cannot be found out."""
  return [*_by_step(workdir).values()]


def _by_step(workdir: Folder) -> dict[int, pathlib.Path]:
  return names.step_files(pathlib.Path(workdir, 'checkpoints'), '.npz')


def best_path(workdir: Folder) -> pathlib.Path:
  """Where the weights with the lowest validation loss are, once there are any."""
  return pathlib.Path(workdir, 'checkpoints', BEST)


def has_best(workdir: Folder) -> bool:
  """Whether there are any. Raises RunError where that cannot be found out."""
  return names.exists(best_path(workdir))


def save(workdir: Folder, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
  """Adds the checkpoint of a step and removes the oldest. Later ones, which are none of this run's, stay.

  Raises:
    RunError: it could not be written; then the last good ones stay.
  """
  write(workdir, names.step_name(step, '.npz'), arrays, state)
  for path in [path for other, path in _by_step(workdir).items() if other <= step][KEEP:]:
    try:
      path.unlink(missing_ok=True)
    except OSError as error:
      raise RunError(f'{path}: cannot be removed, though newer ones are saved ({error.strerror})') from error


def newest(workdir: Folder, *, set_aside: bool = False,
           warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)) -> tuple[Arrays, State] | None:
  """Reads the newest checkpoint that is whole -> its arrays and state, or None where there is no checkpoint.

  Args:
    workdir: the folder of the run.
    set_aside: whether to rename damaged ones, which is for the run that goes on from the one before: it holds the lock.
    warn: is told of each damaged one.

  Raises:
    RunError: one that may be whole cannot be read; or there are checkpoints, and all are damaged.
    UserError: the format of one is older or newer than the one of this charlm.
  """
  paths = saved(workdir)
  damaged: dict[pathlib.Path, Damaged] = {}
  for path in paths:
    try:
      found = read(path)
    except Damaged as error:
      damaged[path] = error
    except RunError:
      if names.exists(path):
        raise
      return newest(workdir, set_aside=set_aside, warn=warn)  # a run has removed it, because it has saved another
    else:
      for bad, why in damaged.items():
        kept = f'; it is now {_set_aside(bad).name}' if set_aside else ''
        warn(f'warning: {why}{kept}. Using {path.name}')
      return found
  if paths:
    raise RunError(f'--workdir={workdir}: none of its {len(paths)} checkpoints is whole; first: {damaged[paths[0]]}. '
                   f'{_way_out(workdir, set_aside)}')
  return None


def _way_out(workdir: Folder, trains: bool) -> str:
  """What to do where no checkpoint is whole."""
  try:
    whole = has_best(workdir) and read(best_path(workdir))
  except (Damaged, RunError, UserError):
    whole = False
  anew = ', or start again in another folder' if trains else ''
  use = f'charlm-train --init_from={workdir} begins with' if trains else 'charlm-evaluate --weights=best takes'
  return f'Bring one back{anew}' + (f' ({use} the best weights, which are whole)' if whole else '')


def set_best_aside(workdir: Folder, warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)) -> None:
  """Renames the best weights of a run that was killed before its first checkpoint, and says so.

  Such a run starts again from nothing, and would write over them.

  Raises:
    RunError: the file cannot be read or renamed.
  """
  path = best_path(workdir)
  if not has_best(workdir) or saved(workdir):
    return
  try:
    state = read(path)[1]
    check_state(workdir, state, {'step': 0})
    aside = _set_aside(path, f'best-of-step-{state["step"]}.npz')
    warn(f'notice: --workdir={workdir}: was stopped before its first checkpoint (--save_every), and begins anew; its '
         f'best weights until then are now {aside}')
  except Damaged as error:
    warn(f'warning: {error}; it is now {_set_aside(path).name}')


def has_whole_best(workdir: Folder, warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)) -> bool:
  """Whether the best weights are as they were saved. Damaged ones are set aside, so that nothing is written over them.

  Args:
    workdir: the folder of a run that goes on, and has had best weights.
    warn: is told where they are damaged or gone.

  Raises:
    RunError: the file cannot be read or renamed.
  """
  path, then = best_path(workdir), 'The weights of the next evaluation take their place'
  try:
    if has_best(workdir):
      read(path)
      return True
    warn(f'warning: {path}: the best weights are gone. {then}')
  except Damaged as error:
    warn(f'warning: {error}; it is now {_set_aside(path).name}. {then}')
  return False


def _set_aside(path: pathlib.Path, name: str = '') -> pathlib.Path:
  """Renames a file to `name`, or by default to that of a damaged one -> its new path, which nothing had."""
  aside = names.free(path.with_name(name or f'{path.name}.bad'))
  try:
    os.rename(path, aside)
  except OSError as error:
    raise RunError(f'{path}: cannot be renamed to {aside.name} ({error.strerror})') from error
  return aside


def identity(tokenizer: Tokenizer, files: Mapping[str, TokenFile]) -> State:
  """What a checkpoint belongs to, {name: value}. files: {split: TokenFile}."""
  return {'vocab_size': tokenizer.vocab_size, 'tokenizer': tokenizer.fingerprint, 'text': files['train'].content}


def check_identity(workdir: Folder, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
  """Compares what a run has now with the state of its checkpoint.

  Raises:
    UserError: the checkpoint belongs to another tokenizer or text.
  """
  for name, value in identity.items():
    if state[name] != value:
      was, now = (f'{v[:8]}...' if isinstance(v, str) else v for v in (state[name], value))
      raise UserError(f'--workdir={workdir}: its checkpoint of step {state["step"]} was trained with another {name} '
                      f'({was}, now {now}). Bring that back, or start in another folder')


def check_state(workdir: Folder, state: Mapping[str, Any], like: Mapping[str, Any]) -> None:
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
