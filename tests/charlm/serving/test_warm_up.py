"""Warm-up records, as TF Serving reads them."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.serving import warm_up


def fields(data):
  """[(number, bytes)] of a serialized message whose fields all hold bytes."""
  found, at = [], 0

  def varint():
    nonlocal at
    value = shift = 0
    while True:
      value |= (data[at] & 127) << shift
      at, shift = at + 1, shift + 7
      if data[at - 1] < 128:
        return value

  while at < len(data):
    tag = varint()
    assert tag & 7 == 2, tag
    size = varint()
    found.append((tag >> 3, data[at:at + size]))
    at += size
  return found


def decoded(record):
  """A PredictionLog -> signature, {input: array}."""
  (six, log), = fields(record)
  (one, request), = fields(log)
  parts = fields(request)
  assert (six, one) == (6, 1) and [number for number, _ in parts] == [1] + [2] * (len(parts) - 1)
  spec, inputs = dict(fields(parts[0][1])), {}
  for _, entry in parts[1:]:
    own = dict(fields(entry))
    inputs[own[1].decode()] = tf.make_ndarray(tf.make_tensor_proto([0]).FromString(own[2]))
  return spec[3].decode(), inputs


def test_records_hold_a_request_for_each_signature(serve, tmp_path):
  served = serve('byte').served
  given = warm_up.requests(served)
  warm_up.write(tmp_path / 'records', given)
  found = dict(decoded(record.numpy()) for record in tf.data.TFRecordDataset(str(tmp_path / 'records')))
  assert set(found) == set(served.functions) == {'serving_default', 'generate', 'score', 'prefill', 'append', 'step',
                                                 'continue'}
  for name, function in served.functions.items():
    for spec in function.input_signature:
      wanted, value = given[name][spec.name], found[name][spec.name]
      assert tf.as_dtype(value.dtype if value.dtype != object else 'string') == spec.dtype
      assert value.shape == wanted.shape and spec.shape.is_compatible_with(value.shape)
      assert [tf.compat.as_bytes(v) if value.dtype == object else v for v in wanted.ravel()] == value.ravel().tolist()


@pytest.mark.parametrize('size', [0, 1, 127, 128, 300, 70_000])
def test_lengths_of_any_size(size):
  _, inputs = decoded(warm_up.prediction_log('s' * max(size, 1), {'x': np.array(['a' * size], object)}))
  assert inputs['x'][0] == b'a' * size


def test_the_classes_of_tf_serving_read_them(serve):
  logs = pytest.importorskip('tensorflow_serving.apis.prediction_log_pb2', reason='tensorflow-serving-api is missing')
  for name, inputs in warm_up.requests(serve('byte').served).items():
    request = logs.PredictionLog.FromString(warm_up.prediction_log(name, inputs)).predict_log.request
    assert request.model_spec.signature_name == name and set(request.inputs) == set(inputs)
    for key, value in inputs.items():
      assert tf.make_ndarray(request.inputs[key]).shape == value.shape
