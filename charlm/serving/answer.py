"""A program of its own, which imports nothing of charlm: loads a SavedModel and answers requests.

    python -I answer.py FOLDER REQUESTS ANSWERS LIBRARIES

REQUESTS and ANSWERS are files of arrays (.npz) named SIGNATURE/INPUT and SIGNATURE/OUTPUT; LIBRARIES are imported
first, such as tensorflow_text.
"""
import collections
import importlib
import os
import sys
from typing import Any

import numpy as np


def main(folder: str, requests: str, answers: str, *libraries: str) -> None:
  """Runs each request through the signature of its name."""
  for package in ('charlm', 'data_pipeline', 'flags'):
    sys.modules[package] = None  # type: ignore[assignment]  # an import of it fails
  for library in libraries:
    importlib.import_module(library)
  import tensorflow as tf
  signatures, found = tf.saved_model.load(os.fsencode(folder).decode()).signatures, {}
  given: dict[str, Any] = collections.defaultdict(dict)
  for name, value in np.load(requests, allow_pickle=True).items():
    signature, _, own = name.partition('/')
    given[signature][own] = tf.constant(value)
  for signature, inputs in given.items():
    for name, value in signatures[signature](**inputs).items():
      found[f'{signature}/{name}'] = value.numpy()
  np.savez(answers, **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
