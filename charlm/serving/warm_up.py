"""Requests that TF Serving runs once it has loaded the model, so that a client's first one need not wait.

The server reads them from assets.extra/tf_serving_warmup_requests: a TFRecord file of PredictionLogs. These are
encoded here as Protocol Buffers have it, because their classes come in a package that needs a TensorFlow of its own:

    PredictionLog   6: predict_log      PredictLog   1: request
    PredictRequest  1: model_spec, 2: inputs, entries of a map with 1: key and 2: value, a TensorProto
    ModelSpec       1: name, 3: signature_name
"""
import os
import pathlib

import numpy as np
import tensorflow as tf

from charlm.serving.signatures import OPTIONS, ServedModel

FILE = 'tf_serving_warmup_requests'

Requests = dict[str, dict[str, np.ndarray]]


def requests(served: ServedModel) -> Requests:
  """One for each signature: {signature: {input: array}}, inputs in the order of the signature."""
  options = dict(zip(OPTIONS, ([4, 2], [1.0, 0.5], [0, 3], [1.0, 0.9], [1, 2]), strict=True))
  values = {'prompt': ['a', ''], 'text': ['a', ''], 'tokens': [[0, -1], [-1, -1]], 'token': [0, 0], 'position': [0, 4],
            'state': np.zeros([2, served.state_size]), **options}
  given = {name: {spec.name: np.array(values[spec.name], spec.dtype.as_numpy_dtype)
                  for spec in function.input_signature} for name, function in served.functions.items()}
  if 'serving_default' in given:  # one row, because it may write as many tokens as a request may ask for
    given['serving_default'] = {'prompt': np.array(['a'], object)}
  return given


def write(path: pathlib.Path, given: Requests) -> None:
  """Writes a file of such requests. Raises tf.errors.OpError."""
  with tf.io.TFRecordWriter(os.fsencode(path).decode()) as file:
    for signature, inputs in given.items():
      file.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
  """A serialized PredictionLog of a request."""
  entries = [_field(1, name.encode()) + _field(2, tf.make_tensor_proto(value).SerializeToString())
             for name, value in inputs.items()]
  request = _field(1, _field(1, b'charlm') + _field(3, signature.encode())) + b''.join(_field(2, e) for e in entries)
  return _field(6, _field(1, request))


def _field(number: int, data: bytes) -> bytes:
  """A field of a message that holds bytes: its number and wire type 2, the length, the bytes."""
  return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
  """Seven bits a byte, the lowest first; the highest bit says that more follow."""
  low = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
  return bytes([*(byte | 128 for byte in low[:-1]), low[-1]])
