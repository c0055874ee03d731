"""A Learner of a small model for tests, and a step of it in parts."""
import numpy as np
import tensorflow as tf

from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.training import learner
from charlm.training.distribution import Distribution, make_strategy
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.training import TrainConfig

V = 11
TEXT = (np.random.default_rng(0).integers(0, 2, 3000).cumsum() % V).astype(np.uint8)  # each token the last, or one more
STARTS = np.array([0, 3, 4, 40, 199, 200, 201, 999, 1500, 2990])  # of documents, each after the last token before it
SMALL = dict(units=12, layers=2, embedding_size=5, input_units=7)

RECIPES = [  # of everything that the model can be made of and drop
  dict(overlap=5, layers=1, dropout=0.3, recurrent_dropout=0.2, zoneout=0.1,
       train=dict(multi_step=6, multi_step_mix=0.9, professor_forcing=0.5)),
  dict(overlap=5, layers=1, cell='lstm', cell_norm=True, norm='joint', tie_embeddings=True, initial_state='noise',
       reset_probability=0.25, input_dropout=0.2, output_dropout=0.2, embedding_dropout=0.1, weight_drop=0.2,
       zoneout=0.3, zoneout_output=0.1, activation_penalty=0.5, temporal_penalty=0.5, dropout_per='sequence',
       train=dict(multi_step=6, multi_step_input='expected', multi_step_schedule='linear')),
]


def make(model, *, strategy='default', distribution=None, batch_size=1, longest=100, overlap=0, **train):
  """longest: tokens of the longest chunk. train: flags of training."""
  data = DataConfig(batch_size=batch_size, chunk_length=longest, chunk_overlap=overlap)
  spread = distribution or Distribution(make_strategy(strategy))
  return learner.Learner(model, TrainConfig(**train), data, spread)


def small(strategy='default', *, distribution=None, batch_size=4, longest=20, overlap=0, train=None,
          recurrence='auto', **model):
  """A Learner of a small model of V tokens. train: flags of training. model: flags of the network."""
  config = ModelConfig(**{**SMALL, **model})
  distribution = distribution or Distribution(make_strategy(strategy))
  with distribution.strategy.scope():
    network = LanguageModel(config, V, seed=3, backend=choice.choose(recurrence, config))
  return make(network, distribution=distribution, batch_size=batch_size, longest=longest, overlap=overlap,
              **(train or {}))


def gradients(one, batch, carry, step=3, progress=0.0):
  """-> gradients of the model, what each objective learns from, sums; of one replica, before anything is applied."""
  parts, _ = one._replica_gradients(batch, carry, tf.constant(step, tf.int64), 0, progress)
  return parts


def objective(one, kind):
  """The Learner's objective of this class."""
  found, = (o for o in one.objectives if isinstance(o, kind))
  return found
