"""The client and a served model, over REST and gRPC: a seed gives one text, however it is asked for."""
import itertools

import pytest
import tensorflow as tf

import stand_in
from charlm.client import Client, ServerError
from charlm.client.client import Place
from charlm.serving.signatures import ServedModel
from charlm.workdir import trained_model
from data_pipeline.tokenizers.byte import ByteTokenizer
from flags.errors import UserError
from flags.serving import ExportConfig

OPTIONS = dict(max_new_tokens=40, temperature=0.9, top_p=0.95)


@pytest.fixture(scope='module')
def folder(finished, tmp_path_factory):
  """A SavedModel of a small run."""
  opened, folder = trained_model.load_model(finished), str(tmp_path_factory.mktemp('served'))
  assert isinstance(opened.tokenizer, ByteTokenizer)  # so that blocks end within characters
  served = ServedModel(opened.model, opened.tokenizer, ExportConfig(length=30, seed=4))
  tf.saved_model.save(served, folder, served.functions)
  return folder


@pytest.fixture(scope='module')
def signatures(folder):
  return tf.saved_model.load(folder).signatures


@pytest.fixture(scope='module', params=['rest', 'grpc'])
def client(request, signatures):
  with getattr(stand_in, request.param)(signatures) as address, Client(address, model='book', retries=0) as one:
    yield one


def test_a_stream_is_the_text_of_generate(client):
  written, = client.generate(['It was'], seed=5, **OPTIONS)
  assert written.num_tokens == 40 and written.log_prob < 0
  for block in 1, 7, 16, 100:
    parts = list(client.stream('It was', seed=5, block=block, **OPTIONS))
    # The stream's end may hold a character that is not finished, which both leave out.
    assert (''.join(parts) == written.text and len(parts) > 1) or block == 100


@pytest.mark.parametrize('stop', [
    ('e w', 'best'), pytest.param(('t',), marks=pytest.mark.slow),
    pytest.param(('no such text',), marks=pytest.mark.slow)])
def test_a_stream_ends_before_a_stop_text(finished, tmp_path, stop):
  opened = trained_model.load_model(finished)
  served = ServedModel(opened.model, opened.tokenizer, ExportConfig(stop=stop))
  with stand_in.rest(served.functions) as address, Client(address, retries=0) as client:
    for seed in range(4):
      written, = client.generate(['It was'], seed=seed, **OPTIONS)
      assert not any(text in written.text for text in stop)
      for block in 1, 7, 40:
        assert ''.join(client.stream('It was', seed=seed, block=block, **OPTIONS)) == written.text


def test_a_stream_goes_on_where_the_server_writes_fewer_tokens_at_a_time(finished, client):
  opened = trained_model.load_model(finished)
  served = ServedModel(opened.model, opened.tokenizer, ExportConfig(length=30, seed=4, max_new_tokens=5))
  wanted, = client.generate(['It was'], seed=5, **OPTIONS)
  with stand_in.rest(served.functions) as address, Client(address, retries=0) as one:
    assert ''.join(one.stream('It was', seed=5, **OPTIONS)) == wanted.text


def test_each_prompt_has_its_own_seed(client):
  both = client.generate(['It was', b'\xff was'], seed=5, **OPTIONS)
  assert both[0] == client.generate(['It was'], seed=5, **OPTIONS)[0]
  assert both[1] == client.generate([b'\xff was'], seed=6, **OPTIONS)[0]
  assert client.generate([]) == client.score([]) == []


def test_options_that_are_left_out_over_grpc_are_those_of_the_export(folder, signatures):
  with stand_in.grpc(signatures, stand_in.defaults_of(folder)) as address, Client(address, retries=0) as client:
    ask, options = client._transport.call, {'max_new_tokens': 30, 'temperature': 0.8, 'seed': 4}
    wanted, = client.generate(['It was'], **options)
    assert ask('generate', {'prompt': ['It was']})['text'] == [wanted.text]
    assert ask('generate', {'prompt': ['It was'] * 2, 'seed': [9, 4]})['text'][1] == wanted.text
    state = ask('prefill', {'prompt': ['It was']})['state']
    found, = ask('continue', {'state': state, 'position': [0]})['text_bytes']
    assert found.decode(errors='replace').startswith(wanted.text.rstrip('\ufffd'))
    with pytest.raises(ServerError, match='prompt'):
      ask('generate', {'seed': [1]})
    with pytest.raises(ServerError, match='position'):
      ask('continue', {'state': state})


def test_scores(client):
  text = 'It was the best of times. é'
  likely, unlikely = client.score([text, text[::-1]])
  assert likely.log_prob > unlikely.log_prob
  assert (likely.num_bytes, likely.num_characters, likely.num_tokens) == (28, 27, 28)
  assert likely.bits_per_character == pytest.approx(likely.bits_per_byte * 28 / 27)
  assert likely.bits_per_byte == pytest.approx(-likely.log_prob / 28 / 0.6931471805599453)


def test_a_client_that_was_closed_connects_again(client):
  first = client.generate(['It was'], **OPTIONS)
  client.close()
  client.close()
  assert client.generate(['It was'], **OPTIONS) == first


def test_a_stream_that_is_left_asks_for_no_more(client, monkeypatch):
  calls, call = [], client._transport.call
  monkeypatch.setattr(client._transport, 'call', lambda name, inputs: calls.append(name) or call(name, inputs))
  assert len(list(itertools.islice(client.stream('It', block=4, temperature=0.0), 2))) == 2
  assert calls == ['prefill', 'continue', 'continue']


def test_what_the_server_refuses_is_one_line(client):
  with pytest.raises(ServerError, match='the server answered') as error:
    client._transport.call('no_such', {'prompt': ['x']})
  assert '\n' not in str(error.value)
  with pytest.raises(UserError, match='expected a list of texts'):
    client.generate('It was')
  with pytest.raises(UserError, match='block=0'):
    next(client.stream('It was', block=0))


def test_an_answer_of_another_model_is_told_of(client, monkeypatch):
  monkeypatch.setattr(client._transport, 'call', lambda name, inputs: {'text': ['a']})
  with pytest.raises(ServerError, match=r'the answer to generate for 1 rows: expected 1 values of num_tokens, found 0'):
    client.generate(['x'])


@pytest.mark.parametrize('name, value', [
  ('text', 5), ('text', '\ud800'), ('text', b'a'), ('num_tokens', '5'), ('num_tokens', 1.5), ('num_tokens', True),
  ('num_tokens', -1), ('log_prob', float('nan')), ('log_prob', '-1.5'), ('log_prob', None), ('log_prob', 10**400)])
def test_an_answer_of_other_types_is_told_of(monkeypatch, name, value):
  client, answer = Client('http://h'), {'text': ['a'], 'num_tokens': [1], 'log_prob': [-1.5]}
  monkeypatch.setattr(client._transport, 'call', lambda *_: answer | {name: [value]})
  with pytest.raises(ServerError, match=f'the answer to generate: expected .* as {name}, found .*wrote') as error:
    client.generate(['x'])
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('name, value', [
  ('state', 0.5), ('state', [0.5, 'a']), ('state', [float('inf')]), ('state', [[1.0]]), ('text_bytes', 'a'),
  ('num_tokens', 17)])
def test_a_block_of_other_types_is_told_of(monkeypatch, name, value):
  client, answer = Client('http://h'), {'text_bytes': [b'a'], 'num_tokens': [1], 'state': [[0.5]]}
  monkeypatch.setattr(client._transport, 'call', lambda *_: answer | {name: [value]})
  with pytest.raises(ServerError, match=r'the answer to continue: expected .* charlm-export wrote'):
    next(client.write(Place([0.5], 0)))


@pytest.mark.parametrize('server', [
  'http://[::1', 'http://a..b', 'http://a b:1', 'http://h\udcff', 'http://h:99999', 'http://h:0', 'http://user:pw@h',
  'grpc://h:1/x', 'grpc://h:1?x=1', 'grpc://[::1', 'grpc://:1', 'GRPC://h:1', 'http://' + 'a' * 64])
def test_what_is_no_address_is_refused(server):
  with pytest.raises(UserError, match=r'^server=.*: expected the address of a server'):
    Client(server)


@pytest.mark.parametrize('server', ['http://h', 'grpc://h:1'])
def test_a_name_that_is_no_text_is_refused(server):
  with pytest.raises(UserError, match=r'^model=.*: expected text'):
    Client(server, model='\udcff')
