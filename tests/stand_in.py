"""A stand-in for TF Serving: runs a real SavedModel, and answers REST and gRPC as TF Serving documents.

It says nothing of the real server's speed, batching or swapping of versions; what it shares with it is the SavedModel
and the formats of requests and answers.
"""
import base64
import contextlib
import http.server
import json
import pathlib
import re
import threading
from concurrent import futures

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from rest import plain

PATH = re.compile(r'/v1/models/([^/:]+)(?:/versions/(\d+))?:predict')


class Refused(Exception):
  """What the server answers with an error."""


def specs_of(function):
  """{name: TensorSpec} of a signature, or of a function in memory."""
  positional, named = getattr(function, 'structured_input_signature', None) or (
    function.get_concrete_function().structured_input_signature)
  return named or {spec.name: spec for spec in positional}


def defaults_of(folder):
  """{signature: {input: array}}, the default values that a SavedModel gives."""
  saved = saved_model_pb2.SavedModel.FromString((pathlib.Path(folder) / 'saved_model.pb').read_bytes())
  return {name: {key: tf.make_ndarray(value) for key, value in signature.defaults.items()}
          for name, signature in saved.meta_graphs[0].signature_def.items()}


def ask(signatures, signature, inputs, defaults=None):
  """inputs: {name: list or array} -> {name: array}; defaults: {signature: {input: array}}. Raises Refused."""
  if signature not in signatures:
    raise Refused(f'Serving signature key "{signature}" not found.')
  specs = specs_of(signatures[signature])
  inputs = {**(defaults or {}).get(signature, {}), **inputs}
  if inputs.keys() != specs.keys():
    raise Refused(f'expected inputs {sorted(specs)}, found {sorted(inputs)}')
  try:
    tensors = {name: tf.constant(inputs[name], spec.dtype) for name, spec in specs.items()}
    return {name: value.numpy() for name, value in signatures[signature](**tensors).items()}
  except (TypeError, ValueError, tf.errors.OpError) as error:
    raise Refused(getattr(error, 'message', str(error))) from error


@contextlib.contextmanager
def rest(signatures):
  """-> the server's address."""
  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'  # which keeps connections

    def do_POST(self):
      body = self.rfile.read(int(self.headers['Content-Length']))
      try:
        if not PATH.fullmatch(self.path):
          raise Refused(f'Malformed request: POST {self.path}')
        request = json.loads(body)
        outputs = ask(signatures, request['signature_name'], plain(request['inputs']))
        columns = {name: encoded(value, name) for name, value in outputs.items()}
        status, answer = 200, {'outputs': columns if len(columns) > 1 else next(iter(columns.values()))}
      except Refused as error:
        status, answer = 400, {'error': str(error)}
      content = json.dumps(answer).encode()
      self.send_response(status)
      self.send_header('Content-Length', str(len(content)))
      self.end_headers()
      self.wfile.write(content)

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def encoded(value, name):
  """An array as TF Serving writes it: floats with nine digits, outputs named *_bytes in base64."""
  if value.dtype == object:
    return [{'b64': base64.b64encode(v).decode()} if name.endswith('_bytes') else v.decode() for v in value.tolist()]
  if value.dtype == np.float32:
    return np.vectorize(lambda x: float(f'{x:.9g}'), otypes=[object])(value).tolist() if value.size else value.tolist()
  return value.tolist()


@contextlib.contextmanager
def grpc(signatures, defaults=None):
  """-> the server's address. Reads and writes TensorFlow's own messages, not those of the client.

  defaults: from `defaults_of`, for inputs that a request leaves out. REST has none.
  """
  import grpc as library

  from charlm.client.grpc import METHOD, messages
  types = messages()

  def predict(data, context):
    request = types['Request'].FromString(data)
    inputs = {e.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(e.value.SerializeToString()))
              for e in request.inputs}
    try:
      outputs = ask(signatures, request.model_spec.signature_name, inputs, defaults)
    except Refused as error:
      context.abort(library.StatusCode.INVALID_ARGUMENT, str(error))
    response = types['Response']()
    for name, value in outputs.items():
      proto = tf.make_tensor_proto(value)
      response.outputs.add(key=name).value.ParseFromString(proto.SerializeToString())
    return response.SerializeToString()

  service, method = METHOD[1:].split('/')
  handler = library.method_handlers_generic_handler(service, {
    method: library.unary_unary_rpc_method_handler(predict, None, None)})
  server = library.server(futures.ThreadPoolExecutor(4), [handler], options=[('grpc.max_receive_message_length', -1)])
  port = server.add_insecure_port('127.0.0.1:0')
  server.start()
  yield f'grpc://127.0.0.1:{port}'
  server.stop(None)
