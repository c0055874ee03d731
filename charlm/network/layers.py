"""The weights of the network's layers, and how a backend takes them."""
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from charlm.network import cells
from charlm.network.backend import base
from charlm.network.dropout import Dropout
from charlm.network.normalization import centre
from charlm.network.recurrence import Weights
from flags.network import ModelConfig


class Linear(tf.Module):
  """The weights of a linear map; `base.LinearWeights` says which kinds there are, by `norm`."""

  def __init__(self, size: int, groups: Sequence[int], bias: Any, seed: int, name: str, norm: str = 'separate'):
    """Makes the weights.

    Args:
      size: n, the numbers in an input.
      groups: columns of the output that layer norm takes together, in order.
      bias: first values, a number or one for each column.
      seed: of the kernel's first values.
      name: of the variables.
      norm: separate, joint or none.
    """
    super().__init__(name)
    self.groups, self.norm, units = tuple(groups), norm, sum(groups)
    self.kernel = tf.Variable(keras.initializers.GlorotUniform(seed)((size, units)), name=f'{name}_kernel')
    if norm == 'separate':
      self.gain = tf.Variable(tf.ones(units), name=f'{name}_gain')
    if norm != 'joint':
      self.bias = tf.Variable(tf.constant(bias, tf.float32, [units]), name=f'{name}_bias')

  def prepare(self, backend: base.Backend) -> base.Linear:
    """-> the map, with the weights read and centred now: x [.., n] -> [.., sum(groups)]."""
    kernel = self.kernel if self.norm == 'none' else centre(self.kernel, self.groups)
    gain, bias = (tf.convert_to_tensor(getattr(self, name)) if hasattr(self, name) else None
                  for name in ('gain', 'bias'))
    return backend.linear(base.LinearWeights(self.norm, self.groups, tf.convert_to_tensor(kernel), gain, bias))


class RecurrentLayer(tf.Module):
  """The weights of a layer of gated cells. Each of its inputs has a projection; the projections are added up."""

  def __init__(self, sizes: Sequence[int], config: ModelConfig, seeds: Iterator[int], name: str):
    """Makes the weights.

    Args:
      sizes: the numbers in each input.
      config: of the model.
      seeds: integers at least ten apart, of which the layer takes one and one for each further input.
      name: of the variables.
    """
    super().__init__(name)
    units, seed = config.units, next(seeds)
    self.units, self.cell = units, cells.CELLS[config.cell]
    self.norm = config.norm if config.layer_norm else 'none'
    gates = len(self.cell.biases)
    biases = [getattr(config, flag) if flag else 0.0 for flag in self.cell.biases for _ in range(units)]
    self.projections = [
      Linear(size, [count * units for count in self.cell.groups], 0.0 if i else biases, next(seeds) if i else seed,
             f'{name}_input_{i}', self.norm) for i, size in enumerate(sizes)]
    square = [keras.initializers.Orthogonal(seed=seed + i)((units, units)) for i in range(1, gates + 1)]
    self.kernel = tf.Variable(tf.concat(square, 1), name=f'{name}_kernel')
    self.gain = _variables({'separate': 1.0, 'joint': (1.0, 0.0), 'none': ()}[self.norm], gates * units, f'{name}_gain')
    if self.norm == 'joint':
      self.gain[1].assign(biases)
    self.cell_weights = _variables(self.cell.initial_weights(config), units, f'{name}_cell')
    learned = config.initial_state == 'learned'
    initial = [tf.Variable(tf.zeros(units), trainable=learned, name=f'{name}_initial_{i}')
               for i in range(self.cell.states)]
    self.initial = initial[0] if self.cell.states == 1 else tuple(initial)

  def prepare(self, backend: base.Backend, dropout: Dropout, number: int) -> base.Recurrent:
    """-> the layer, with the weights read and centred now.

    Args:
      backend: what computes it.
      dropout: of the pass.
      number: of this layer, for its random numbers.
    """
    kernel = tf.convert_to_tensor(self.kernel)
    kernel = dropout.drop_weights('weight_drop', kernel, kernel.shape[1], number)
    gain, cell_weights = tf.nest.map_structure(tf.convert_to_tensor, (self.gain, self.cell_weights))
    return backend.recurrent(self.cell, self.norm, Weights(kernel, gain, cell_weights),
                             lambda shape: [dropout.mask(flag, shape, number) for flag in self.cell.masks])


def _variables(values: Any, size: int, name: str) -> Any:
  """A nest of numbers -> a nest of variables [size] that begin with them."""
  count = itertools.count()
  return tf.nest.map_structure(lambda v: tf.Variable(tf.fill([size], v), name=f'{name}_{next(count)}'), values)
