"""What --strategy=tpu has each core of a TPU run compiles for that TPU, and sums gradients over the cores once."""
import pytest
import tensorflow as tf

import learners
from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.training import learner
from charlm.training.distribution import Distribution
from data_pipeline.streams import Batch
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.training import TrainConfig
from tests.chips import pretended_tpu
from tests.chips.test_training_step import OWN_PREDICTIONS, compiler

pytestmark = pytest.mark.slow

B, T = 2, 20  # of each core


@pytest.fixture(scope='module')
def strategy():
  with pretended_tpu.strategy() as made:
    yield made


def make(strategy, model=None, **train):
  """-> a Learner, and (batch, carry) of one core."""
  config = ModelConfig(**{**learners.SMALL, **(model or {})})
  with strategy.scope():
    network = LanguageModel(config, learners.V, seed=3, backend=choice.choose('auto', config, 'TPU'))
  data = DataConfig(batch_size=B * pretended_tpu.REPLICAS, chunk_length=T)
  one = learner.Learner(network, TrainConfig(**train), data, Distribution(strategy))
  starts = tf.zeros([B, T], tf.bool) if config.cell == 'lstm' else None
  batch = Batch(tf.zeros([B, T + 1], tf.int32), tf.zeros([B], tf.bool), tf.ones([B, T]), starts)
  return one, (batch, tf.nest.map_structure(lambda s: tf.zeros([B, *s.shape[1:]]), network.initial_state(1)))


def instructions(function, *args):
  """-> those of what each core runs, compiled for v5e."""
  module, _ = compiler('v5e').compile(pretended_tpu.program(function, *args), replicas=pretended_tpu.REPLICAS)
  return [i for computation in module.computations for i in computation.instructions]


def numbers(instruction):
  """How many numbers an instruction computes."""
  shapes = instruction.shape.tuple_shapes or [instruction.shape]
  return sum(tf.TensorShape(shape.dimensions).num_elements() for shape in shapes)


@pytest.mark.parametrize('model, train', [
  ({}, {}), (dict(cell='lstm', cell_norm=True), dict(average='ema')), (dict(layers=1), OWN_PREDICTIONS)])
def test_a_step_sums_gradients_once(strategy, model, train):
  one, args = make(strategy, model, **train)
  decisions = learner.StepDecisions(*(tf.constant(x, tf.float32) for x in learner.StepDecisions(0.5)))
  found = [i for i in instructions(one._step, *args, decisions) if i.opcode == 'all-reduce']
  assert all(len(i.collective_device_list.replica_groups[0].replica_ids) == pretended_tpu.REPLICAS for i in found)
  weights = sum(v.shape.num_elements() for v in one.model.trainable_variables)
  own = sum(v.shape.num_elements() for o in one.objectives for v in getattr(o, 'weights', []))
  assert weights + own <= sum(map(numbers, found)) < weights + own + 30, 'the rest are losses and counts'


def test_an_evaluation(strategy):
  one, args = make(strategy)
  found = instructions(learner.DistributedScorer(one.evaluated, one.distribution)._score, *args)
  assert sum(i.opcode == 'while' for i in found) == 2
  assert not any(i.opcode == 'all-reduce' for i in found)
