"""The training step as it is written for a machine with an accelerator, and the runner that goes along."""
import json
import subprocess
import sys

import numpy as np
import pytest
from tensorflow.compiler.xla.service import hlo_pb2

from benchmarks import accelerator, accelerator_run
from source_tree import ROOT

SIZES = dict(batch_size=2, chunk_length=5, units=4, layers=2, vocab_size=7, embedding_size=3)
RUNNER = ROOT / 'benchmarks/accelerator_run.py'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A program and its facts."""
  folder = tmp_path_factory.mktemp('programs')
  accelerator.write(folder, 'lstm-tf32', SIZES, 'lstm', 'tf32', 'GPU')
  return (hlo_pb2.HloModuleProto.FromString((folder / 'lstm-tf32.hlo').read_bytes()),
          json.loads((folder / 'lstm-tf32.json').read_text()))


def test_facts_fit_the_program(written):
  module, facts = written
  shape = module.host_program_shape
  assert [a['shape'] for a in facts['arguments']] == [list(s.dimensions) for s in shape.parameters]
  assert [a['shape'] for a in facts['outputs']] == [list(s.dimensions) for s in shape.result.tuple_shapes]
  assert facts['metrics'] == ['gradient_norm', 'learning_rate', 'nats', 'tokens']


def test_what_a_step_changes_goes_into_the_next(written):
  """The carry, weights, moments and counts; not what is given or stays."""
  _, facts = written
  outputs, arguments = zip(*facts['feedback'], strict=True)
  assert list(outputs) == list(range(len(facts['metrics']), len(facts['outputs'])))
  assert len(set(arguments)) == len(arguments)
  for output, argument in facts['feedback']:
    taken, made = facts['arguments'][argument], facts['outputs'][output]
    assert (taken['shape'], taken['dtype']) == (made['shape'], made['dtype'])


def test_any_xla_can_read_the_program(written):
  module, _ = written
  opcodes = {i.opcode for c in module.computations for i in c.instructions}
  assert not opcodes & {'copy', 'custom-call'}
  assert not module.input_output_alias.entries, 'the runner says what is donated'


def test_expectation_is_that_of_random_weights(written):
  nats, tolerance = written[1]['expected']['nats']
  assert tolerance == 1e-3
  assert nats / 10 == pytest.approx(np.log(7), rel=0.5)


def test_arguments_are_drawn_as_they_are_described():
  weights = np.random.default_rng(0).normal(0, 2, [999])
  constant, tokens, normal = (accelerator.describe(a, 7) for a in (
    np.ones([3], 'float32'), np.arange(6, dtype='int32'), weights.astype('float32')))
  np.testing.assert_array_equal(accelerator_run.draw(constant, 0), np.ones([3]))
  drawn = accelerator_run.draw(tokens, 1)
  assert drawn.dtype == np.int32 and drawn.min() >= 0 and drawn.max() < 7
  drawn = accelerator_run.draw(normal, 2)
  assert drawn.dtype == np.float32 and drawn.std() == pytest.approx(2, rel=0.1)
  np.testing.assert_array_equal(drawn, accelerator_run.draw(normal, 2))
  assert not np.array_equal(drawn, accelerator_run.draw(normal, 3))


def test_runner_is_short_and_needs_no_charlm():
  source = RUNNER.read_text()
  assert source.count('\n') <= 100
  assert 'charlm.' not in source.replace("charlm's", '') and 'tensorflow' not in source


@pytest.mark.parametrize('version', [(0, 4, 38), (1, 0, 0)])
def test_other_versions_of_jax_are_refused_in_one_line(version, tmp_path):
  name = '.'.join(map(str, version))
  (tmp_path / 'jax.py').write_text(f'__version__, __version_info__ = {name!r}, {version!r}')
  done = subprocess.run([sys.executable, RUNNER], env={'PYTHONPATH': str(tmp_path)}, capture_output=True, text=True)
  assert done.returncode == 1
  assert done.stderr == f'jax: expected version 0.10 or later, below 0.12; got {name}\n'
  assert not done.stdout
