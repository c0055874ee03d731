"""Requests to TF Serving's REST interface, with the standard library alone.

A request holds columns, {name: a value for each row}. Text travels as {"b64": ...}, so that any bytes arrive as they
are; so do outputs whose names end in _bytes.
"""
import base64
import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from charlm.client.transport import Columns, ServerError, Unavailable, foreign, retried
from flags import served

UNAVAILABLE = (429, 502, 503)  # HTTP's statuses for "not now"
PATH_SAFE = "/%:@!$&'()*+,;=~"  # what stands for itself in the path of an address, or is quoted already


class RestTransport:
  """A connection to http://HOST:PORT, or https."""

  def __init__(self, url: str, model: str, *, version: int = 0, timeout: float = 60, retries: int = 5) -> None:
    """The arguments are those of `client.Client`, and so is the error."""
    served.check_address(url, model)
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == 'https' else http.client.HTTPConnection
    self._connection = kind(parts.hostname or '', parts.port, timeout=timeout)
    at_version = f'/versions/{version}' if version else ''
    path = urllib.parse.quote(parts.path.rstrip('/'), safe=PATH_SAFE)
    self._path = f'{path}/v1/models/{urllib.parse.quote(model, safe="")}{at_version}:predict'
    self._url, self._timeout, self._retries = url, timeout, retries

  def call(self, signature: str, inputs: Mapping[str, Sequence[Any]]) -> Columns:
    """As `Transport.call`."""
    body = json.dumps({'signature_name': signature, 'inputs': {name: [_sent(v) for v in column]
                                                                for name, column in inputs.items()}}).encode()
    answer = retried(lambda: self._send(body), self._retries)
    outputs = answer.get('outputs')
    if outputs is None:
      raise ServerError(f'{self._url}: expected "outputs" in the answer to {signature}, found {sorted(answer)}')
    # A signature of one output has no name for it.
    columns = outputs if isinstance(outputs, dict) else {'': outputs}
    if not all(isinstance(column, list) for column in columns.values()):
      raise foreign(f'{self._url}: expected a list of values for each output of {signature}')
    return {name: [_received(v) for v in column] for name, column in columns.items()}

  def close(self) -> None:
    """As `Transport.close`."""
    self._connection.close()

  def _send(self, body: bytes) -> dict[str, Any]:
    """-> the answer's JSON."""
    try:
      status, answer = self._exchange(body)
    except TimeoutError as error:
      self.close()
      raise ServerError(f'{self._url}: no answer within {self._timeout:g} seconds') from error
    except (OSError, http.client.HTTPException) as error:
      self.close()
      raise Unavailable(f'{self._url}: cannot be reached ({error or type(error).__name__})') from error
    try:
      content = json.loads(answer)
    except (ValueError, RecursionError):
      content = None
    if status == 200 and isinstance(content, dict):
      return content
    words = content.get('error', '') if isinstance(content, dict) else answer[:200].decode('utf-8', 'replace')
    kind = Unavailable if status in UNAVAILABLE else ServerError
    raise kind(f'{self._url}: the server answered {status}: {" ".join(str(words).split()) or "nothing"}')

  def _exchange(self, body: bytes) -> tuple[int, bytes]:
    """Sends over the connection that is open; once more over a new one where the server has closed it meanwhile."""
    was_open = self._connection.sock is not None
    try:
      self._connection.request('POST', self._path, body, {'Content-Type': 'application/json'})
      response = self._connection.getresponse()
    except (ConnectionError, http.client.RemoteDisconnected):
      self.close()
      if not was_open:
        raise
      self._connection.request('POST', self._path, body, {'Content-Type': 'application/json'})
      response = self._connection.getresponse()
    return response.status, response.read()


def _sent(value: Any) -> Any:
  if isinstance(value, str):
    value = value.encode('utf-8', 'surrogateescape')
  return {'b64': base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _received(value: Any) -> Any:
  """Raises ServerError where an object is no {"b64": ...}."""
  if not isinstance(value, dict):
    return value
  try:
    return base64.b64decode(value['b64'], validate=True)
  except (KeyError, TypeError, ValueError) as error:
    raise foreign('expected values such as {"b64": "YQ=="} in the answer, found another JSON object') from error
