"""Requests to TF Serving's REST interface, answered by a SavedModel in this process."""
import base64
import json

import numpy as np
import tensorflow as tf


def plain(value):
  """JSON with {"b64": ...} as bytes."""
  if isinstance(value, dict) and set(value) == {'b64'}:
    return base64.b64decode(value['b64'])
  if isinstance(value, dict):
    return {name: plain(own) for name, own in value.items()}
  return [plain(own) for own in value] if isinstance(value, list) else value


def predict(signatures, body):
  """The body of a `predict` request, by rows or columns -> {output: array}. Every input must be given."""
  request = json.loads(body)
  signature = signatures[request.pop('signature_name', 'serving_default')]
  specs = signature.structured_input_signature[1]
  (form, given), = request.items()
  given = plain(given)
  if form == 'instances':
    rows = [row if isinstance(row, dict) else {next(iter(specs)): row} for row in given]
    given = {name: [row[name] for row in rows] for name in rows[0]}
  elif form == 'inputs' and not isinstance(given, dict):
    given = {next(iter(specs)): given}
  assert set(given) == set(specs), (set(given), set(specs))
  inputs = {name: tf.constant(np.array(given[name]) if spec.dtype == tf.float32 else given[name], spec.dtype)
            for name, spec in specs.items()}
  return {name: value.numpy() for name, value in signature(**inputs).items()}
