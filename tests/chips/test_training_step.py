"""The training step compiles for chips that are not here, fits them, and its loops are what they should be."""
import functools
import itertools

import pytest
import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2

import learners
from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.training.learner import StepDecisions
from data_pipeline.streams import Batch
from flags.network import ModelConfig
from tests.chips import compilers

pytestmark = pytest.mark.slow

V = 11
MEMORY = {'v5e': 16 * 2**30, 'v6e': 32 * 2**30, 'h100': 80 * 10**9}
NOISE = dict(dropout=0.2, zoneout=0.1, recurrent_dropout=0.2, reset_probability=0.1, initial_state='noise')
OWN_PREDICTIONS = dict(multi_step=5, professor_forcing=0.5)
# What differs from the layer-norm GRU, and how many loops there are: two layers, forward and back; for own predictions
# also the rollouts' three, and eight of the discriminator: both directions of both behaviours, forward and back.
KINDS = {'gru': ({}, 4), 'lstm': (dict(cell='lstm', cell_norm=True), 4), 'documents': (dict(documents=True), 4),
         'noise': (NOISE, 4), 'bfloat16': (dict(compute_dtype='bfloat16'), 4),
         'own predictions': (OWN_PREDICTIONS, 15)}


@functools.cache
def compiler(chip):
  try:
    return compilers.compiler(chip)
  except ModuleNotFoundError as missing:
    pytest.skip(f"{chip}: {missing}: pip install -e '.[chips]'")


@functools.cache
def step(platform, batch_size=8, length=30, units=32, documents=False, multi_step=0, professor_forcing=0.0, **model):
  """The whole step as a serialized HloModuleProto: gradients, clipping, Adam."""
  config = ModelConfig(**{**dict(units=units, embedding_size=8, input_units=units), **model})
  network = LanguageModel(config, V, backend=choice.choose('xla', config, platform))
  one = learners.make(network, batch_size=batch_size, longest=length, multi_step=multi_step,
                      professor_forcing=professor_forcing)
  starts = tf.zeros([batch_size, length], tf.bool) if documents else None
  batch = Batch(tf.zeros([batch_size, length + 1], tf.int32), tf.zeros([batch_size], tf.bool),
                tf.ones([batch_size, length]), starts)
  decisions = StepDecisions(*(tf.constant(x, tf.float32) for x in StepDecisions(0.5)))
  return one._step.experimental_get_compiler_ir(batch, one.initial_carry(), decisions)(stage='hlo_serialized')


@functools.cache
def compiled(chip, **options):
  """-> the step for this chip: loops and memory."""
  module, memory = compiler(chip).compile(step('GPU' if chip == 'h100' else 'TPU', **options))
  return list(compilers.loops(module)), memory


@pytest.mark.parametrize('kind, chip', [*itertools.product(KINDS, MEMORY)])
def test_step_compiles(kind, chip):
  options, count = KINDS[kind]
  loops, memory = compiled(chip, **options)
  assert len(loops) == count
  assert memory.aliased > 0.9 * memory.outputs, 'variables are updated in place'
  assert memory.total < MEMORY[chip]


@pytest.mark.parametrize('length', [20, 1000])
def test_gpu_knows_how_often_a_loop_runs(length):
  """Else it asks the host after each token. A pass over a token is 6 kernels forward, 9 back."""
  loops, _ = compiled('h100', batch_size=64, length=length, units=512)
  assert [loop.trips for loop in loops] == [length] * 4
  kernels = sorted(loop.kernels for loop in loops)
  assert kernels[1] <= 6 and kernels[3] <= 9


def test_cycles_of_a_token_on_a_tpu():
  """As the compiler guesses them, at the size of the benchmarks. The gradient's were 57,900 as a CPU has it."""
  loops, _ = compiled('v5e', batch_size=64, length=200, units=512)
  forward, backward = sorted(loop.cycles for loop in loops)[::2]
  assert 10_000 < forward <= 17_500
  assert 10_000 < backward <= 28_000


@pytest.mark.parametrize('dtype, precision', [('float32', 'DEFAULT'), ('full_float32', 'HIGHEST')])
def test_full_float32_is_kept_on_a_tpu(dtype, precision):
  """DEFAULT rounds to bfloat16 there."""
  network = choice.choose('xla', ModelConfig(compute_dtype=dtype), 'TPU')
  product = tf.function(network.product, jit_compile=True)
  a = tf.ones([128, 128])
  module, _ = compiler('v5e').compile(product.experimental_get_compiler_ir(a, a)(stage='hlo_serialized'))
  names = xla_data_pb2.PrecisionConfig.Precision.Name
  found = [[names(p) for p in i.precision_config.operand_precision] or ['DEFAULT'] for c in module.computations
           for i in c.instructions if i.opcode in ('dot', 'convolution')]
  assert found and {p for pair in found for p in pair} == {precision}


def test_what_does_not_fit_is_refused():
  with pytest.raises(compilers.Refused, match='Ran out of memory'):
    compiled('v5e', batch_size=8192, length=400, units=256)
