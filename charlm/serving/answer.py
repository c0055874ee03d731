"""A program of its own, which imports nothing of charlm: loads a SavedModel and answers requests.

    python -I answer.py FOLDER REQUESTS ANSWERS PATH LIBRARIES

REQUESTS and ANSWERS are files (.npz) of tensors named SIGNATURE/INPUT and SIGNATURE/OUTPUT, as `packed` makes them.
PATH names the folders where packages are; LIBRARIES are imported first, such as tensorflow_text.
"""
import collections
import importlib
import os
import sys
from typing import Any

import numpy as np


def main(folder: str, requests: str, answers: str, path: str, *libraries: str) -> None:
  """Imports what the model needs, and nothing of charlm, then answers."""
  sys.path += [place for place in path.split(os.pathsep) if place not in sys.path]
  # Imports of these fail. Keras does without matplotlib, whose settings may be broken.
  for package in ('charlm', 'data_pipeline', 'flags', 'matplotlib'):
    sys.modules[package] = None  # type: ignore[assignment]
  for library in libraries:
    importlib.import_module(library)
  answer(folder, requests, answers)


def answer(folder: str, requests: str, answers: str) -> None:
  """Runs each request through the signature of its name."""
  import tensorflow as tf
  signatures, found = tf.saved_model.load(os.fsencode(folder).decode()).signatures, {}
  given: dict[str, Any] = collections.defaultdict(dict)
  for name, value in np.load(requests).items():
    signature, _, own = name.partition('/')
    given[signature][own] = tf.constant(unpacked(value))
  for signature, inputs in given.items():
    for name, value in signatures[signature](**inputs).items():
      found[f'{signature}/{name}'] = packed(value.numpy())
  np.savez(answers, **found)  # type: ignore[arg-type]


def packed(value: np.ndarray) -> np.ndarray:
  """An array, of texts too, as the bytes of a TensorProto: NumPy itself would pickle texts."""
  import tensorflow as tf
  return np.frombuffer(tf.make_tensor_proto(value).SerializeToString(), np.uint8)


def unpacked(data: np.ndarray) -> np.ndarray:
  """The array that `packed` was given."""
  import tensorflow as tf
  from tensorflow.core.framework import tensor_pb2
  return tf.make_ndarray(tensor_pb2.TensorProto.FromString(data.tobytes()))


if __name__ == '__main__':
  main(*sys.argv[1:])
