"""A LanguageModel that takes part whole, and as its slow twin in NumPy takes it: weights in float64, texts, tokens."""
import numpy as np
import tensorflow as tf

import references
from charlm.network.model import LanguageModel
from flags.network import ModelConfig


def random_model(vocab_size, **options):
  """A small LanguageModel whose every weight is random, so that each takes part."""
  config = ModelConfig(**{**dict(units=4, embedding_size=3, input_units=4), **options})
  one, random = LanguageModel(config, vocab_size, seed=1), np.random.default_rng(0)
  for v in one.variables:
    v.assign(random.normal(size=v.shape))
  return one


def weights(one, number=lambda v: v.numpy().astype(np.float64)):
  """A LanguageModel's weights, as the slow twin takes them, in float64."""
  def linear(m):
    return {'W': number(m.kernel), 'groups': m.groups, **{name: number(getattr(m, name)) for name in ('gain', 'bias')
                                                          if hasattr(m, name)}}

  def several(nest):
    return number(nest) if isinstance(nest, tf.Variable) else tuple(number(v) for v in nest)

  if one.config.tie_embeddings:
    kernels = [number(one.output_projection)] if hasattr(one, 'output_projection') else []
    kernels.append(number(one.embedding).T)
  else:
    kernels = [number(one.output_kernel)]
  return {'embedding': number(one.embedding), 'input': [linear(m) for m in one.input_layers],
          'layers': [{'maps': [linear(m) for m in l.projections], 'U': number(l.kernel), 'gain': several(l.gain),
                      'cell': several(l.cell_weights),
                      'initial': [number(v) for v in tf.nest.flatten(l.initial)]} for l in one.recurrent_layers],
          'kernels': kernels, 'bias': number(one.output_bias)}


def calm(config):
  """The factors of evaluation: zoneout lets each number move by the share that does in training."""
  return lambda flag, layer=0: 1 - getattr(config, flag) if flag.startswith('zoneout') else 1.0


def slow(one, given, tokens, states, factor=None):
  config = one.config
  return references.language_model(
      given, tokens, states, cell=config.cell, norm=config.norm if config.layer_norm else 'none', wiring=config.wiring,
      combine=config.combine, factor=factor or calm(config))


def initial(one, given):
  """The state of one row where text begins; `given` as from `weights`."""
  return [tuple(s[None] for s in layer['initial']) if one.config.cell == 'lstm' else layer['initial'][0][None]
          for layer in given['layers']]


def read(one, given, token, states):
  """One token of one row, an id or the probabilities of all -> logits [V], states after it."""
  embedded = given['embedding'][token] if np.ndim(token) == 0 else token @ given['embedding']
  logits, _, after = slow(one, given | {'embedding': embedded[None]}, np.zeros((1, 1), int), states)
  return logits[0, 0], tf.nest.map_structure(lambda s: s[0], after)


def sample(logits, number):
  """The token whose step of the running sum of probabilities the number, in [0, 1), falls on."""
  climb = np.exp(logits - logits.max()).cumsum()
  return int(np.searchsorted(climb, number * climb[-1], side='right'))
