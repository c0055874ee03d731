"""gRPC messages: the client's own declarations say the same as TensorFlow's."""
import contextlib
import threading
from concurrent import futures

import grpc as library
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from charlm.client import grpc, transport
from charlm.client.transport import ServerError, Unavailable
from flags.errors import UserError


def tensorflow_reads(tensor):
  return tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensor.SerializeToString()))


@pytest.mark.parametrize('values, dtype, expected', [
  (['a', b'\xff', ''], grpc.STRING, np.array([b'a', b'\xff', b''], object)),
  ([1, -2**31], grpc.INT32, np.array([1, -2**31], np.int32)),
  ([2**62, -1], grpc.INT64, np.array([2**62, -1])),
  ([0.1, float('inf')], grpc.FLOAT, np.array([0.1, np.inf], np.float32)),
  ([[0.1, 0.2], [0.3, -0.0]], grpc.FLOAT, np.array([[0.1, 0.2], [0.3, -0.0]], np.float32)),
  ([], grpc.STRING, np.array([], object))])
def test_tensorflow_reads_what_is_sent(values, dtype, expected):
  tensor = grpc.messages()['Tensor']()
  grpc.fill(tensor, values, dtype)
  found = tensorflow_reads(tensor)
  assert found.dtype == expected.dtype
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('value', [
  np.array([1, 2, 3], np.int32), np.array([7] * 40, np.int32), np.array([2**40, -5]), np.array([], np.float32),
  np.array([0.25] * 6, np.float32), np.arange(6, dtype=np.float32).reshape(2, 3), np.full([3, 2], 0.5, np.float32)])
@pytest.mark.parametrize('packed', [True, False])
def test_numbers_come_back_however_tensorflow_writes_them(value, packed):
  # make_tensor_proto writes tensor_content for arrays, and lists of values otherwise; equal ones once.
  proto = tf.make_tensor_proto(value if packed else value.tolist(), value.dtype, value.shape)
  if not packed and value.size and (value == value.flat[0]).all():
    proto = tf.make_tensor_proto(value.flat[0], value.dtype, value.shape)
  tensor = grpc.messages()['Tensor'].FromString(proto.SerializeToString())
  assert grpc.column(tensor, False) == value.tolist()


@pytest.mark.parametrize('fields', [
  {'dtype': 2}, {'dtype': 0}, {'dtype': 99, 'tensor_content': b'abcd'}, {'dtype': 1, 'tensor_content': b'abc'},
  {'dtype': 1, 'shape': [1, 1, 1]}, {'dtype': 3, 'shape': [-1]}, {'dtype': 9, 'shape': [2**40]},
  {'dtype': 1, 'shape': [-1, -1]}])
def test_a_tensor_that_no_exported_model_gives_is_told_of(fields):
  tensor = grpc.messages()['Tensor'](**{name: value for name, value in fields.items() if name != 'shape'})
  for size in fields.get('shape', [1]):
    tensor.tensor_shape.dim.add(size=size)
  with pytest.raises(ServerError, match='Is this a model that charlm-export wrote'):
    grpc.column(tensor, False)


def test_text_comes_back_as_text_or_bytes():
  tensor = grpc.messages()['Tensor'].FromString(tf.make_tensor_proto([b'\xc3\xa9', b'\xff']).SerializeToString())
  assert grpc.column(tensor, True) == [b'\xc3\xa9', b'\xff'] and grpc.column(tensor, False) == ['é', '\ufffd']


@pytest.mark.parametrize('dtype, bits', [(grpc.INT32, 32), (grpc.INT64, 64)])
def test_numbers_that_do_not_fit_are_refused(dtype, bits):
  with pytest.raises(UserError, match=f'{10**30}: expected a number of {bits} bits'):
    grpc.fill(grpc.messages()['Tensor'](), [1, 10**30], dtype)


@pytest.mark.parametrize('url', ['grpc://', 'grpc://host/path'])
def test_what_is_no_address_is_refused(url):
  with pytest.raises(UserError, match='expected the address of a server'):
    grpc.GrpcTransport(url, 'm')


@contextlib.contextmanager
def server(answer):
  """A server whose every call is answered by answer(context). -> its address."""
  service, method = grpc.METHOD[1:].split('/')
  handler = library.method_handlers_generic_handler(service, {
    method: library.unary_unary_rpc_method_handler(lambda _, context: answer(context))})
  one = library.server(futures.ThreadPoolExecutor(2), [handler])
  port = one.add_insecure_port('127.0.0.1:0')
  one.start()
  yield f'grpc://127.0.0.1:{port}'
  one.stop(None)


def test_a_server_that_is_not_ready_is_asked_again_after_longer_and_longer_pauses(monkeypatch):
  pauses, calls = [], []
  monkeypatch.setattr(transport.time, 'sleep', pauses.append)

  def answer(context):
    calls.append(1)
    if len(calls) < 4:
      context.abort(library.StatusCode.UNAVAILABLE, 'loading')
    return b''

  with server(answer) as url:
    assert grpc.GrpcTransport(url, 'm', retries=3).call('score', {'text': ['x']}) == {}
    assert all(0.05 * 2**i <= pause <= 0.1 * 2**i for i, pause in enumerate(pauses)) and len(pauses) == 3
    calls.clear()
    with pytest.raises(Unavailable, match='UNAVAILABLE: loading'):
      grpc.GrpcTransport(url, 'm', retries=2).call('score', {'text': ['x']})
  assert len(calls) == 3


def test_a_server_that_does_not_answer_in_time_is_not_asked_again():
  release, calls = threading.Event(), []

  def answer(context):
    calls.append(1)
    release.wait(20)
    return b''

  with server(answer) as url:
    with pytest.raises(ServerError, match=r'no answer within 0\.5 seconds') as error:
      grpc.GrpcTransport(url, 'm', timeout=0.5).call('score', {'text': ['x']})
    release.set()
  assert not isinstance(error.value, Unavailable) and len(calls) <= 1


@pytest.mark.parametrize('code', ['INVALID_ARGUMENT', 'NOT_FOUND', 'RESOURCE_EXHAUSTED', 'INTERNAL'])
def test_a_refusal_is_one_line_and_is_not_sent_again(code):
  calls = []

  def answer(context):
    calls.append(1)
    context.abort(getattr(library.StatusCode, code), 'prompt:\n expected shape')

  with server(answer) as url, pytest.raises(ServerError, match=f'{code}: prompt: expected shape$') as error:
    grpc.GrpcTransport(url, 'm').call('score', {'text': ['x']})
  assert len(calls) == 1 and not isinstance(error.value, Unavailable)
