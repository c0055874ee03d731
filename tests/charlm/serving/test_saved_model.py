"""What is written: a graph that any server runs, loaded by other programs than Python's TensorFlow."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

import cpp_loader
from charlm.serving import warm_up

SLOW = pytest.mark.slow
EXPORTS = [('byte', 'gru', {}), pytest.param('char', 'lstm', {'stop': 'sat|\n'}, marks=SLOW),
           pytest.param('sentencepiece', 'residual', {}, marks=SLOW),
           pytest.param('sentencepiece', 'gru', {'text_ops': 'none'}, marks=SLOW)]
READING = {'VarHandleOp', 'ReadVariableOp', 'ResourceGather', 'SentencepieceOp', 'SentencepieceTokenizeOp',
           'StatefulPartitionedCall', 'While', 'If'}  # and the control flow that holds them
SERVER = os.environ.get('TF_SERVING_BINARY') or shutil.which('tensorflow_model_server')


def nodes(folder):
  """All nodes that a request reaches, and no others: those that save and restore are not among them."""
  meta = saved_model_pb2.SavedModel.FromString((folder / 'saved_model.pb').read_bytes()).meta_graphs[0]
  outside = {node.name: node for node in meta.graph_def.node}
  functions = {f.signature.name: f for f in meta.graph_def.library.function}
  waiting = [tensor.name for signature in meta.signature_def.values() for tensor in signature.outputs.values()]
  found, seen = [], set()
  while waiting:
    name = waiting.pop().removeprefix('^').partition(':')[0]
    if name in seen:
      continue
    seen.add(name)
    reached = functions[name].node_def if name in functions else [outside[name]]
    if name in functions:
      assert not functions[name].attr['_XlaMustCompile'].b
    else:
      waiting += outside[name].input
    found += reached
    waiting += [f.name for node in reached for value in node.attr.values() for f in [value.func, *value.list.func]
                if f.name]
  return found


@pytest.mark.slow
@pytest.mark.parametrize('kind, structure, flags', EXPORTS)
def test_the_graph_has_no_python_no_compiler_and_no_state(exported, kind, structure, flags):
  found = nodes(exported(kind, structure, **flags))
  for node in found:
    assert '_XlaMustCompile' not in node.attr or not node.attr['_XlaMustCompile'].b, node
    definition = op_def_registry.get(node.op)
    assert not definition.is_stateful or node.op in READING, node
    assert 'PyFunc' not in node.op and ('Random' not in node.op or node.op.startswith('Stateless')), node
  text_ops = any('Sentencepiece' in node.op for node in found)
  assert text_ops == (kind == 'sentencepiece' and flags.get('text_ops') != 'none')


@pytest.mark.slow
def test_facts_and_warm_up_lie_beside_it(exported):
  extra = exported() / 'assets.extra'
  facts = json.loads((extra / 'charlm.json').read_text())
  assert (facts['step'], facts['tokenizer'], facts['vocab_size'], facts['state_size']) == (7, 'byte', 256, 32)
  assert facts['serving_default'] == {'max_new_tokens': 200, 'temperature': 0.8, 'top_k': 0, 'top_p': 1.0, 'seed': 0}
  assert (facts['max_new_tokens'], facts['stop']) == (4096, [])
  assert len(list(tf.data.TFRecordDataset(str(extra / warm_up.FILE)))) == 7


@SLOW
def test_saved_model_cli_runs_it(exported):
  program = pathlib.Path(sys.executable).parent / 'saved_model_cli'
  done = subprocess.run([program, 'run', '--dir', exported(), '--tag_set', 'serve', '--signature_def', 'score',
                         '--input_exprs', "text=[b'the cat', b'']"], capture_output=True, text=True, check=False)
  assert done.returncode == 0 and 'num_tokens' in done.stdout and '[7 0]' in done.stdout, done.stderr


@pytest.fixture(scope='session')
def loader(tmp_path_factory):
  """The C++ program that loads a SavedModel: (folder, requests) -> answers. 3 s of processor time to compile."""
  if not shutil.which('g++'):
    pytest.skip('g++ is missing')
  program = cpp_loader.build(tmp_path_factory.mktemp('loader'))
  return lambda folder, requests: cpp_loader.ask(program, folder, requests)[0]


def options(served, **given):
  types = {spec.name: spec.dtype.as_numpy_dtype for spec in served.served.functions['generate'].input_signature}
  return {name: np.array(value, types[name]) for name, value in served.options(**given).items()}


@SLOW
@pytest.mark.parametrize('kind, structure, flags', EXPORTS)
def test_a_program_without_python_gives_the_same_answers(exported, serve, loader, kind, structure, flags):
  served, folder = serve(kind, structure, **flags), exported(kind, structure, **flags)
  requests = warm_up.requests(served.served)
  if 'generate' in requests:
    requests['generate'] = {'prompt': np.array(['', 'the cat'], object), **options(served, max_new_tokens=[150, 9])}
  for (name, inputs), answers in zip(requests.items(), loader(folder, requests.items()), strict=True):
    for output, value in served.ask(name, **inputs).items():
      close = np.testing.assert_allclose if value.dtype.kind == 'f' else np.testing.assert_array_equal
      close(answers[output], value, **({'rtol': 1e-4, 'atol': 1e-4} if value.dtype.kind == 'f' else {}))


@SLOW
def test_options_that_are_left_out_are_those_of_the_export(exported, serve, loader):
  """As gRPC clients may; TF Serving takes them from the signature."""
  flags, prompt = {'length': 9, 'temperature': 0.5, 'top_k': 4, 'top_p': 0.9, 'seed': 7}, np.array(['a', 'b'], object)
  served, folder = serve(**flags), exported(**flags)
  wanted = served.generate(['a', 'b'], 9, **{name: value for name, value in flags.items() if name != 'length'})
  state = served.ask('prefill', prompt=['a', 'b'])['state']
  few, first = {'prompt': prompt, 'max_new_tokens': np.array([3], np.int32)}, np.zeros(1, np.int32)
  one, other, part, *refused = loader(folder, [
    ('generate', {'prompt': prompt}), ('generate', few), ('continue', {'state': state, 'position': first}),
    ('continue', {'state': state}), ('generate', {}), ('step', {'state': state})])
  assert one['text'].tolist() == wanted['text'].tolist() and other['num_tokens'].tolist() == [3, 3]
  assert part['text_bytes'].tolist() == wanted['text_bytes'].tolist()
  assert refused == ['missing: position', 'missing: prompt', 'missing: token']


@SLOW
def test_wrong_ranks_are_refused_by_name(exported, serve, loader):
  """TensorFlow in Python would refuse them before the graph does; a server does not."""
  one, served = np.zeros([1, 32], np.float32), serve()
  scalar, matrix, column = np.array('a', object), np.array([['a', 'b']], object), np.array(['a'], object)
  wrong = [('generate', {'prompt': matrix, **options(served)}, 'prompt [1,2]'),
           ('generate', {'prompt': scalar, **options(served)}, 'prompt []'),
           ('generate', {'prompt': column, **options(served), 'seed': np.zeros([1, 1], np.int64)}, 'seed [1,1]'),
           ('serving_default', {'prompt': matrix}, 'prompt [1,2]'), ('score', {'text': matrix}, 'text [1,2]'),
           ('score', {'text': scalar}, 'text []'), ('prefill', {'prompt': scalar}, 'prompt []'),
           ('append', {'prompt': scalar, 'state': one}, 'prompt []'),
           ('append', {'prompt': column, 'state': one[0]}, 'state [32]'),
           ('step', {'token': np.zeros([1, 1], np.int32), 'state': one}, 'token [1,1]'),
           ('step', {'token': np.zeros([1], np.int32), 'state': one[:, 1:]}, 'state [1,31]'),
           ('continue', {'state': one[None], 'position': np.zeros([1], np.int32), **options(served)}, 'state [1,1,32]')]
  for (name, _, named), answer in zip(wrong, loader(exported(), [w[:2] for w in wrong]), strict=True):
    assert isinstance(answer, str) and all(word in answer for word in named.split()), (name, named, answer)


@SLOW
@pytest.mark.skipif(not SERVER, reason='tensorflow_model_server is not on the PATH, nor named by TF_SERVING_BINARY')
@pytest.mark.parametrize('batching', [False, True])
def test_tensorflow_serving_gives_the_same_answers(exported, serve, batching):
  folder, served = exported(), serve()
  with socket.socket() as free, socket.socket() as other:
    free.bind(('127.0.0.1', 0))
    other.bind(('127.0.0.1', 0))
    ports = free.getsockname()[1], other.getsockname()[1]
  url = f'http://127.0.0.1:{ports[0]}/v1/models/charlm'
  server = subprocess.Popen([SERVER, f'--rest_api_port={ports[0]}', f'--port={ports[1]}', '--model_name=charlm',
                             f'--model_base_path={folder.parent}', f'--enable_batching={str(batching).lower()}'],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

  def ask(path, body=None):
    with urllib.request.urlopen(url + path, json.dumps(body).encode() if body else None, timeout=60) as answer:
      return json.loads(answer.read())

  try:
    for _ in range(120):
      try:
        if ask('')['model_version_status'][0]['state'] == 'AVAILABLE':
          break
      except OSError:
        pass
      time.sleep(0.5)
    rows = [{'prompt': p, 'max_new_tokens': 20, 'temperature': 1.0, 'top_k': 0, 'top_p': 1.0, 'seed': 3}
            for p in ('', 'the cat')]
    found = ask(':predict', {'signature_name': 'generate', 'instances': rows})['predictions']
    wanted = served.generate(['', 'the cat'], 20, seed=3)['text']
    assert [row['text'].encode() for row in found] == wanted.tolist()
  finally:
    server.terminate()
    server.wait()
