"""What the signatures of an exported model answer, and that it needs nothing of charlm."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from charlm.generation.prompts import encode_prompt
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session
from charlm.network.model import LanguageModel
from charlm.serving import export
from charlm.serving.signatures import valid_utf8
from data_pipeline.tokenizers.registry import train_tokenizer
from flags.network import ModelConfig

KINDS = ['byte', 'char', 'sentencepiece']
PROMPTS = ['', 'ab', 'b a c', 'caffè']
TEXT = 'the cat sat on the mat\n' * 50 + 'caffè, è così\n' * 20


def tiny_model(tokenizer):
  """A model with large output weights, so that its text is not all noise."""
  model = LanguageModel(ModelConfig(embedding_size=8, input_units=16, units=16), tokenizer.vocab_size, seed=1)
  model.output_kernel.assign(8 * model.output_kernel)
  return model


@pytest.fixture(scope='module')
def exports(tmp_path_factory):
  """Tokenizer -> model, tokenizer, folder of the export, its signatures."""
  made = {}
  for kind in KINDS:
    tokenizer = train_tokenizer(kind, [TEXT.encode()], vocab_size=300)
    model = tiny_model(tokenizer)
    path = export.export(model, tokenizer, tmp_path_factory.mktemp(kind), facts={'step': 7})
    made[kind] = model, tokenizer, path, tf.saved_model.load(str(path)).signatures
  return made


@pytest.fixture(params=KINDS)
def served(request, exports):
  return exports[request.param]


def ask(signatures, prompts, max_new_tokens=20, temperature=1.0, top_k=0, top_p=1.0, seed=0):
  def rows(value, dtype):
    return tf.constant(np.broadcast_to(value, len(prompts)), dtype)

  return {name: value.numpy() for name, value in signatures['generate'](
      prompt=tf.constant(prompts), max_new_tokens=rows(max_new_tokens, tf.int32),
      temperature=rows(temperature, tf.float32), top_k=rows(top_k, tf.int32), top_p=rows(top_p, tf.float32),
      seed=rows(seed, tf.int64)).items()}


def test_generate_writes_what_the_model_writes(served):
  """The same prompt and seed give what charlm-sample gives, and log_prob is that of the text that came out."""
  model, tokenizer, _, signatures = served
  answer = ask(signatures, PROMPTS, 20, 0.9, 5, 0.95, seed=3)
  session = Session(model, row_seeds(3, 1), temperature=0.9, top_k=5, top_p=0.95)
  for i, prompt in enumerate(PROMPTS):
    ids = encode_prompt(tokenizer, prompt.encode())
    tokens, _ = session.write(20, session.read(ids))
    assert answer['text_bytes'][i] == tokenizer.decode(tokens[0])
    outputs, _ = model(np.concatenate([ids, tokens[0]])[None], model.initial_state(1))
    log_probs = tf.nn.log_softmax(outputs.logits[0, len(ids) - 1:-1]).numpy()
    np.testing.assert_allclose(answer['log_prob'][i], log_probs[np.arange(20), tokens[0]].sum(), rtol=1e-4)


def test_any_cell_and_wiring_is_served(tmp_path):
  tokenizer = train_tokenizer('char', [TEXT.encode()], vocab_size=300)
  chosen = ModelConfig(embedding_size=8, input_units=16, units=16, layers=3, cell='lstm', norm='joint',
                              wiring='dual_path', combine='concat', tie_embeddings=True, zoneout=0.5)
  model = LanguageModel(chosen, tokenizer.vocab_size, seed=1)
  signatures = tf.saved_model.load(str(export.export(model, tokenizer, tmp_path, facts={}))).signatures
  ids = encode_prompt(tokenizer, b'a cat')
  tokens, _ = (session := Session(model, row_seeds(3, 1))).write(20, session.read(ids))
  assert ask(signatures, ['a cat'], 20, seed=3)['text_bytes'][0] == tokenizer.decode(tokens[0])


def test_a_row_depends_on_its_own_inputs_alone(served):
  options = {'max_new_tokens': [0, 70, 1, 20], 'temperature': [1.0, 0.0, 0.5, 2.0], 'top_k': [0, 0, 3, 0],
             'top_p': [1.0, 1.0, 0.5, 1.0], 'seed': [1, 2, 2**40, -1]}
  together = ask(served[3], PROMPTS, **options)
  assert together['num_tokens'].tolist() == options['max_new_tokens']
  for i in range(len(PROMPTS)):
    alone = ask(served[3], PROMPTS[i:i + 1], **{name: values[i] for name, values in options.items()})
    assert alone['text_bytes'][0] == together['text_bytes'][i]
    np.testing.assert_allclose(alone['log_prob'][0], together['log_prob'][i], rtol=1e-4)
  assert together['text'][0] == b'' and together['log_prob'][0] == 0


def test_serving_default_is_generate_with_the_stated_options(served):
  facts = json.loads((served[2] / 'assets.extra' / 'charlm.json').read_text())
  text = served[3]['serving_default'](prompt=tf.constant(PROMPTS))['text'].numpy()
  np.testing.assert_array_equal(text, ask(served[3], PROMPTS, **facts['serving_default'])['text'])


def test_text_is_always_valid_utf8(served):
  prompts = [b'\xff\xfe', b'ab\xc3', '\u20ac'.encode(), b'\0']
  answer = ask(served[3], prompts, max_new_tokens=50, temperature=5.0, seed=range(4))
  for text, raw in zip(answer['text'], answer['text_bytes'], strict=True):
    assert text.decode().rstrip('\ufffd') == raw.decode('utf-8', 'replace').rstrip('\ufffd')


def test_counts_out_of_range_are_taken_as_the_nearest_that_make_sense(served):
  assert ask(served[3], ['a'], max_new_tokens=-5)['num_tokens'] == [0]


def test_facts_and_no_compiled_function(served):
  _, tokenizer, path, _ = served
  facts = json.loads((path / 'assets.extra' / 'charlm.json').read_text())
  assert facts['step'] == 7
  assert (facts['tokenizer'], facts['vocab_size']) == (tokenizer.kind, tokenizer.vocab_size)
  graph = saved_model_pb2.SavedModel.FromString((path / 'saved_model.pb').read_bytes()).meta_graphs[0].graph_def
  nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
  for part in [*nodes, *graph.library.function]:
    assert '_XlaMustCompile' not in part.attr or not part.attr['_XlaMustCompile'].b
  assert any('Sentencepiece' in n.op for n in nodes) == (tokenizer.kind == 'sentencepiece')


LOAD = """
import sys
for name in ('charlm', 'data_pipeline', 'flags', 'sentencepiece'):
  sys.modules[name] = None
try:
  import charlm
  sys.exit('charlm can be imported')
except ImportError:
  pass
import tensorflow as tf
for path in sys.argv[1:]:
  if 'sentencepiece' in path:
    import tensorflow_text
  signatures = tf.saved_model.load(path).signatures
  sys.stdout.buffer.write(signatures['serving_default'](prompt=tf.constant(['ab']))['text'].numpy()[0])
"""


def test_loads_where_charlm_is_not(exports, tmp_path):
  environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
  paths = [str(path) for _, _, path, _ in exports.values()]
  done = subprocess.run([sys.executable, '-c', LOAD, *paths], cwd=tmp_path, env=environment, capture_output=True,
                        timeout=300)
  assert done.returncode == 0, done.stderr.decode()
  here = [signatures['serving_default'](prompt=tf.constant(['ab']))['text'] for *_, signatures in exports.values()]
  assert done.stdout == b''.join(text.numpy()[0] for text in here)


@pytest.mark.parametrize('raw, text', [
    (b'', ''), (b'abc', 'abc'), (b'ab\xc3', 'ab'), (b'ab\xe2\x82', 'ab'), (b'\xf0\x9f\x98', ''),
    (b'a\xc3z', 'a\ufffdz'), (b'\xffz', '\ufffdz'), ('a\ufffd'.encode(), 'a\ufffd'), ('\u20ac'.encode(), '\u20ac')])
def test_valid_utf8(raw, text):
  assert valid_utf8(tf.constant([raw, b'other'])).numpy().tolist() == [text.encode(), b'other']
