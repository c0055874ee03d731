"""Checkpoints: one file each, whole or not at all, with everything that the next step depends on.

    WORKDIR/checkpoints/step-00001500.npz   the newest two, to go on from
    WORKDIR/checkpoints/best.npz            the weights with the lowest validation loss

A file is a NumPy archive: `model/...` and `optimizer/...` by variable, `carry/...` by layer, and `state`, JSON of
the rest (step, place in the text, early stopping, best so far, what tokenizer and text it belongs to), and
`digest`, a SHA-256 of all of them, so that damage is noticed.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import sys

import numpy as np

from flags.errors import RunError, UserError

KEEP = 2


def write(path, arrays, state):
  """Writes a checkpoint under a temporary name, then renames it. Raises RunError; the last good one stays."""
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, 'wb') as file:
      state = json.dumps(state).encode()
      np.savez(file, state=np.frombuffer(state, np.uint8), digest=np.frombuffer(_digest(arrays, state), np.uint8),
               **arrays)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    with contextlib.suppress(OSError):
      temporary.unlink()
    last = saved(path.parent.parent)
    raise RunError(f'{path}: the checkpoint could not be saved ({error.strerror or error}). '
                   f'{f"The last good one is {last[0]}" if last else "There is none yet"}. '
                   'Make room, then run the same command again') from error


def _digest(arrays, state):
  digest = hashlib.sha256(state)
  for name in sorted(arrays):
    digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}'.encode())
    digest.update(np.ascontiguousarray(arrays[name]).data)
  return digest.digest()


def read(path):
  """-> arrays, state. Raises RunError where the file is damaged."""
  try:
    with np.load(path) as archive:
      arrays = {name: archive[name] for name in archive.files}
    state, digest = (arrays.pop(name).tobytes() for name in ('state', 'digest'))
    if digest != _digest(arrays, state):
      raise ValueError('its contents are not those that were saved')
    return arrays, json.loads(state)
  except Exception as error:  # zipfile raises whatever damaged bytes lead it to
    raise RunError(f'{path}: the checkpoint is damaged ({error})') from error


def saved(workdir):
  """The checkpoints to go on from, newest first."""
  return sorted(pathlib.Path(workdir, 'checkpoints').glob('step-*.npz'), reverse=True)


def best_path(workdir):
  return pathlib.Path(workdir, 'checkpoints', 'best.npz')


def save(workdir, step, arrays, state):
  """Adds a checkpoint and removes the oldest. Raises RunError; the last good ones stay."""
  for torn in pathlib.Path(workdir, 'checkpoints').glob('.*.tmp'):  # left by a kill
    torn.unlink()
  write(pathlib.Path(workdir, 'checkpoints', f'step-{step:08d}.npz'), arrays, state)
  for path in saved(workdir):  # newer ones are damaged: the run went back beyond them
    if int(path.stem.partition('-')[2]) > step:
      path.unlink()
  for path in saved(workdir)[KEEP:]:
    path.unlink()


def newest(workdir, warn=lambda text: print(text, file=sys.stderr)):
  """-> arrays, state of the newest checkpoint that can be read, or None where there is none at all.

  Raises RunError where there are some and none can be read.
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


def check_identity(workdir, identity, state):
  """Raises UserError where the state of a checkpoint says that it belongs to something else."""
  for name, value in identity.items():
    if state[name] != value:
      was, now = (f'{v[:8]}...' if isinstance(v, str) else v for v in (state[name], value))
      raise UserError(f'--workdir={workdir}: its checkpoint of step {state["step"]} was trained with another {name} '
                      f'({was}, now {now}). Bring that back, or start in another folder')


def _names(prefix, variables):
  """Their place and name. Keras numbers those that have none by what else the process has made: they go without."""
  names = [re.sub(r'^variable_\d+$', 'variable', v.name.partition(':')[0]) for v in variables]
  return [f'{prefix}/{i:03d}.{name.replace("/", ".")}' for i, name in enumerate(names)]


def collect(prefix, variables):
  """variables -> {name: array}."""
  return {name: v.numpy() for name, v in zip(_names(prefix, variables), variables, strict=True)}


def restore(prefix, variables, arrays):
  """Assigns what `collect` made. Raises UserError where the arrays are those of another model."""
  names = _names(prefix, variables)
  found = sorted(n for n in arrays if n.startswith(prefix + '/'))
  shapes = {name: tuple(v.shape) for name, v in zip(names, variables, strict=True)}
  other = [name for name in sorted({*found, *names}) if name not in arrays or arrays[name].shape != shapes.get(name)]
  if other:
    was, now = (f'of shape {shape}' if shape is not None else 'none' for shape in (
        arrays[other[0]].shape if other[0] in arrays else None, shapes.get(other[0])))
    raise UserError(f'the checkpoint holds another {prefix} than config.json asks for: {len(other)} arrays differ, '
                    f'first {other[0]}, {was}, expected {now}. Bring the files back that belong together')
  for name, variable in zip(names, variables, strict=True):
    variable.assign(arrays[name])
