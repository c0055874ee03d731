"""Requests to TF Serving over gRPC. Needs grpcio and protobuf (`pip install charlm[grpc]`), and not TensorFlow.

The messages of tensorflow_serving/apis/predict.proto and tensorflow/core/framework/tensor.proto are declared here, with
the fields that are used, in a pool of their own, so that they do not meet TensorFlow's.
"""
import array
import functools
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from charlm.client.transport import Columns, ServerError, Unavailable, foreign, retried
from flags import served
from flags.errors import UserError

try:
  import grpc
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as error:
  raise UserError(f"grpc://...: expected grpcio and protobuf to be installed ({error}); pip install 'charlm[grpc]'"
                  ) from error

METHOD = '/tensorflow.serving.PredictionService/Predict'
LONGEST_MESSAGE = 1 << 30  # bytes; gRPC's own limit of 4 MB is too little for the states of many rows
FLOAT, INT32, STRING, INT64 = 1, 3, 7, 9  # tensorflow.DataType
INPUTS = {'prompt': STRING, 'text': STRING, 'temperature': FLOAT, 'top_p': FLOAT, 'state': FLOAT, 'seed': INT64}
ARRAYS = {FLOAT: ('f', 'float_val'), INT32: ('i', 'int_val'), INT64: ('q', 'int64_val')}  # array's code, field
# {message: {field: (number, type)}}; types are protobuf's, or other messages.
MESSAGES = {
  'Dim': {'size': (1, 'int64')},
  'Shape': {'dim': (2, 'repeated Dim')},
  'Tensor': {'dtype': (1, 'int32'), 'tensor_shape': (2, 'Shape'), 'tensor_content': (4, 'bytes'),
             'float_val': (5, 'repeated float'), 'int_val': (7, 'repeated int32'),
             'string_val': (8, 'repeated bytes'), 'int64_val': (10, 'repeated int64')},
  'Entry': {'key': (1, 'string'), 'value': (2, 'Tensor')},  # a map is a list of such
  'Version': {'value': (1, 'int64')},
  'ModelSpec': {'name': (1, 'string'), 'version': (2, 'Version'), 'signature_name': (3, 'string')},
  'Request': {'model_spec': (1, 'ModelSpec'), 'inputs': (2, 'repeated Entry')},
  'Response': {'outputs': (1, 'repeated Entry')},
}


@functools.cache
def messages() -> dict[str, Any]:
  """{name: class} of MESSAGES."""
  file = descriptor_pb2.FileDescriptorProto(name='charlm.proto', package='charlm', syntax='proto3')
  field_types = descriptor_pb2.FieldDescriptorProto
  for name, fields in MESSAGES.items():
    message = file.message_type.add(name=name)
    for field, (number, words) in fields.items():
      repeated, kind = words.startswith('repeated '), words.removeprefix('repeated ')
      one = message.field.add(name=field, number=number, label=3 if repeated else 1)
      if kind in MESSAGES:
        one.type, one.type_name = field_types.TYPE_MESSAGE, f'.charlm.{kind}'
      else:
        one.type = getattr(field_types, f'TYPE_{kind.upper()}')
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f'charlm.{name}')) for name in MESSAGES}


class GrpcTransport:
  """A channel to grpc://HOST:PORT."""

  def __init__(self, url: str, model: str, *, version: int = 0, timeout: float = 60, retries: int = 5) -> None:
    """The arguments are those of `client.Client`, and so is the error."""
    served.check_address(url, model)
    self._channel: grpc.Channel | None = None  # made with the first request, and with the first after `close`
    self._url, self._model, self._version, self._timeout, self._retries = url, model, version, timeout, retries

  def call(self, signature: str, inputs: Mapping[str, Sequence[Any]]) -> Columns:
    """As `Transport.call`."""
    request = messages()['Request']()
    request.model_spec.name, request.model_spec.signature_name = self._model, signature
    if self._version:
      request.model_spec.version.value = self._version
    for name, values in inputs.items():
      fill(request.inputs.add(key=name).value, values, INPUTS.get(name, INT32))
    response = retried(lambda: self._send(request), self._retries)
    return {entry.key: column(entry.value, entry.key.endswith('_bytes')) for entry in response.outputs}

  def close(self) -> None:
    """As `Transport.close`."""
    if self._channel:
      self._channel.close()
    self._channel = None

  def _open(self) -> grpc.Channel:
    if not self._channel:
      limits = [(f'grpc.max_{way}_message_length', LONGEST_MESSAGE) for way in ('receive', 'send')]
      self._channel = grpc.insecure_channel(self._url.removeprefix('grpc://').rstrip('/'), limits)
    return self._channel

  def _send(self, request: Any) -> Any:
    try:
      predict = self._open().unary_unary(METHOD, type(request).SerializeToString, messages()['Response'].FromString)
      return predict(request, timeout=self._timeout)
    except grpc.RpcError as error:
      if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise ServerError(f'{self._url}: no answer within {self._timeout:g} seconds') from error
      kind = Unavailable if error.code() == grpc.StatusCode.UNAVAILABLE else ServerError
      words = ' '.join((error.details() or '').split())
      raise kind(f'{self._url}: the server answered {error.code().name}: {words}') from error


def fill(tensor: Any, values: Sequence[Any], dtype: int) -> None:
  """Puts a value for each row into a Tensor. Raises UserError where a number is too large for its type."""
  tensor.dtype = dtype
  tensor.tensor_shape.dim.add(size=len(values))
  if dtype == STRING:
    tensor.string_val.extend(v.encode('utf-8', 'surrogateescape') if isinstance(v, str) else v for v in values)
    return
  if values and isinstance(values[0], list):  # the state
    tensor.tensor_shape.dim.add(size=len(values[0]))
    values = [x for row in values for x in row]
  try:
    tensor.tensor_content = _little_endian(array.array(ARRAYS[dtype][0], values)).tobytes()
  except OverflowError as error:
    raise UserError(f'{max(values, key=abs)}: expected a number of {64 if dtype == INT64 else 32} bits') from error


def column(tensor: Any, as_bytes: bool) -> list[Any]:
  """A Tensor [B] or [B, n] -> a value for each row; strings as bytes, or as str. Raises ServerError for others."""
  shape = [dim.size for dim in tensor.tensor_shape.dim]
  if tensor.dtype == STRING:
    return list(tensor.string_val) if as_bytes else [v.decode('utf-8', 'replace') for v in tensor.string_val]
  size = math.prod(shape)
  if tensor.dtype not in ARRAYS or len(shape) > 2 or not 0 <= size <= LONGEST_MESSAGE // 4 or min(shape, default=0) < 0:
    raise foreign(f'expected rows of text, integers or float32 in the answer, found type {tensor.dtype}, shape {shape}')
  code, field = ARRAYS[tensor.dtype]
  values, content = list(getattr(tensor, field)), array.array(code)
  if tensor.tensor_content:
    if len(tensor.tensor_content) != size * content.itemsize:
      raise foreign(f'expected {size} values in the answer, found {len(tensor.tensor_content)} bytes')
    content.frombytes(tensor.tensor_content)
    values = list(_little_endian(content))
  # A tensor of equal values may hold only the first of them.
  values += [(values or [0])[-1]] * (size - len(values))
  if len(shape) < 2:
    return values
  return [values[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]


def _little_endian(values: array.array) -> array.array:
  if sys.byteorder == 'big':
    values.byteswap()
  return values
