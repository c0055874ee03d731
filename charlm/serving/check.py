"""An export proves itself before it is called done: loaded without charlm, it answers as the model in memory does."""
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from charlm.serving import answer
from charlm.serving.signatures import ServedModel
from charlm.serving.warm_up import Requests
from flags.errors import RunError

SECONDS = 600  # that loading and answering may take
TOLERANCE = 1e-3  # of numbers; texts must be the same

Answers = dict[str, np.ndarray]  # SIGNATURE/OUTPUT: array


def answers_of(served: ServedModel, requests: Requests) -> Answers:
  """What the model in memory answers. Raises RunError where that is not finite."""
  answers = {f'{signature}/{name}': value.numpy() for signature, inputs in requests.items()
             for name, value in served.functions[signature](*inputs.values()).items()}
  if not all(np.isfinite(value).all() for value in answers.values() if value.dtype.kind == 'f'):
    raise RunError('the weights of this model are not finite, so that it cannot be served; --weights=best or an '
                   'earlier checkpoint may be sound')
  return answers


def check(folder: pathlib.Path, requests: Requests, expected: Answers, libraries: Sequence[str]) -> None:
  """Runs requests in a process that has TensorFlow and nothing of charlm.

  Args:
    folder: of the SavedModel.
    requests: what to ask.
    expected: the answers of the model in memory.
    libraries: what the process imports beside TensorFlow.

  Raises:
    RunError: the model does not load there, or gives other answers.
  """
  folder = folder.absolute()  # the process has another current folder
  with tempfile.TemporaryDirectory(dir=folder) as temporary:  # there may be no other that can be written to
    given, found = (pathlib.Path(temporary, f'{name}.npz') for name in ('requests', 'answers'))
    np.savez(given, **{f'{signature}/{name}': answer.packed(value) for signature, inputs in requests.items()
                       for name, value in inputs.items()})  # type: ignore[arg-type]
    places = os.pathsep.join(filter(None, sys.path))
    _run([sys.executable, '-I', answer.__file__, str(folder), str(given), str(found), places, *libraries], temporary)
    with np.load(found) as file:
      answers = {name: answer.unpacked(data) for name, data in file.items()}
  for name, here in expected.items():
    there = answers[name]
    same = here.shape == there.shape and (
      np.allclose(here, there, TOLERANCE, TOLERANCE) if here.dtype.kind == 'f' else np.array_equal(here, there))
    if not same:
      raise RunError(f'the model that was written answers other than the model in memory: {name} is '
                     f'{there.tolist()}, expected {here.tolist()}')


def _run(command: list[str], folder: str) -> None:
  try:
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, cwd=folder,
                          env={**os.environ, 'TMPDIR': folder})
  except subprocess.TimeoutExpired:
    raise RunError(f'the model that was written did not answer within {SECONDS} seconds') from None
  if done.returncode:
    last = [f'exit status {done.returncode}', *done.stderr.decode(errors='replace').strip().splitlines()][-1]
    raise RunError(f'the model that was written does not run without charlm ({last})')
