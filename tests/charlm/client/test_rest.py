"""REST requests: what a server's answer becomes, and what is sent again."""
import contextlib
import http.server
import json
import threading
import time

import pytest

from charlm.client import transport
from charlm.client.rest import RestTransport
from charlm.client.transport import ServerError, Unavailable
from flags.errors import UserError


@contextlib.contextmanager
def server(*answers):
  """Answers request after request with (status, body), or hangs up at None. -> its address, the requests so far."""
  waiting, requests = [*answers], []

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
      requests.append((self.path, json.loads(self.rfile.read(int(self.headers['Content-Length'])))))
      answer = waiting.pop(0)
      if answer is None:
        self.close_connection = True
        return
      status, body = answer
      self.send_response(status)
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as one:
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{one.server_port}', requests
    one.shutdown()


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
  """The pauses that were asked for; none is waited for."""
  found = []
  monkeypatch.setattr(transport.time, 'sleep', found.append)
  return found


GOOD = (200, json.dumps({'outputs': {'text': ['é'], 'text_bytes': [{'b64': '/w=='}], 'state': [[0.5]]}}).encode())


def test_columns_go_out_and_come_back():
  with server(GOOD) as (url, requests):
    found = RestTransport(url, 'my book', version=3).call('generate', {'prompt': [b'\xff'], 'seed': [2**40]})
  assert found == {'text': ['é'], 'text_bytes': [b'\xff'], 'state': [[0.5]]}
  assert requests == [('/v1/models/my%20book/versions/3:predict',
                       {'signature_name': 'generate', 'inputs': {'prompt': [{'b64': '/w=='}], 'seed': [2**40]}})]


def test_paths_are_quoted():
  with server(GOOD) as (url, requests):
    RestTransport(url + '/é b%20c', 'é').call('generate', {'prompt': ['x']})
  assert requests[0][0] == '/%C3%A9%20b%20c/v1/models/%C3%A9:predict'


@pytest.mark.parametrize('outputs', [
  '5', '"a"', '{"text": 5}', '{"text": null}', '[{"x": 1}]', '[{"b64": 5}]', '[{"b64": "é"}]', '[{"b64": "a"}]'])
def test_an_answer_that_no_exported_model_gives_is_told_of(outputs):
  answer = 200, f'{{"outputs": {outputs}}}'.encode()
  with server(answer) as (url, requests), pytest.raises(ServerError, match='a model that charlm-export wrote') as error:
    RestTransport(url, 'm').call('generate', {'prompt': ['x']})
  assert len(requests) == 1 and not isinstance(error.value, Unavailable)


def test_one_output_has_no_name():
  with server((200, b'{"outputs": ["a"]}')) as (url, _):
    assert RestTransport(url, 'm').call('serving_default', {'prompt': ['x']}) == {'': ['a']}


@pytest.mark.parametrize('status', [429, 502, 503])
def test_a_server_that_is_not_ready_is_asked_again_after_longer_and_longer_pauses(status, pauses):
  with server(*[(status, b'{"error": "loading"}')] * 3, GOOD) as (url, requests):
    assert RestTransport(url, 'm', retries=3).call('generate', {'prompt': ['x']})['text'] == ['é']
  assert len(requests) == 4
  assert all(0.05 * 2**i <= pause <= 0.1 * 2**i for i, pause in enumerate(pauses)) and len(pauses) == 3


def test_retries_end():
  loading = (503, b'{"error": "loading"}')
  with server(*[loading] * 3) as (url, requests), pytest.raises(Unavailable, match='503: loading'):
    RestTransport(url, 'm', retries=2).call('generate', {'prompt': ['x']})
  assert len(requests) == 3


@pytest.mark.parametrize('status, body, words', [
  (400, b'{"error": "prompt:\\n expected shape"}', '400: prompt: expected shape$'),
  (404, b'not found', '404: not found'), (504, b'{"error": "deadline"}', '504: deadline'),
  (200, b'<html>', '200: <html>'), (200, b'[1]', r'200: \[1\]'),
  (200, b'[' * 100_000, r'200: \[\[\['),
  (500, b'', '500: nothing'), (200, b'{"predictions": []}', "expected \"outputs\".*'predictions'")])
def test_a_refusal_is_one_line_and_is_not_sent_again(status, body, words):
  with server((status, body)) as (url, requests), pytest.raises(ServerError, match=words) as error:
    RestTransport(url, 'm').call('generate', {'prompt': ['x']})
  assert len(requests) == 1 and '\n' not in str(error.value) and not isinstance(error.value, Unavailable)


def test_a_connection_that_the_server_has_closed_is_opened_again(pauses):
  with server(GOOD, None, GOOD) as (url, requests):
    one = RestTransport(url, 'm', retries=0)
    one.call('generate', {'prompt': ['x']})
    assert one.call('generate', {'prompt': ['x']})['text'] == ['é']
  assert len(requests) == 3 and not pauses


def test_a_server_that_is_not_there_is_unavailable(pauses):
  with pytest.raises(Unavailable, match=r'http://127.0.0.1:1: cannot be reached \(.*refused'):
    RestTransport('http://127.0.0.1:1', 'm', retries=2).call('generate', {'prompt': ['x']})
  assert len(pauses) == 2


def test_a_server_that_does_not_answer_in_time_is_not_asked_again(monkeypatch):
  release = threading.Event()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      release.wait(10)

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as one:
    threading.Thread(target=one.serve_forever, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(ServerError, match=r'no answer within 0\.2 seconds') as error:
      RestTransport(f'http://127.0.0.1:{one.server_port}', 'm', timeout=0.2).call('generate', {'prompt': ['x']})
    release.set()
    assert not isinstance(error.value, Unavailable) and time.monotonic() - began < 9
    one.shutdown()


@pytest.mark.parametrize('url', ['', 'localhost:8501', 'ftp://host', 'http://', 'http://host:port', 'http://h?x=1'])
def test_what_is_no_address_is_refused(url):
  with pytest.raises(UserError, match='expected the address of a server'):
    RestTransport(url, 'm')
