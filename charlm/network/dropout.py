"""The random numbers of a training step: which units are dropped, and which rows start afresh.

All of them follow from the `Noise` of the step: the seed, the number of the step, the flag that asks for it, the layer
and the row. So a run that goes on, and any number of replicas, draw the same. alg='philox' is named because XLA on a
CPU is 60 times slower with the default.
"""
import dataclasses
from typing import Any

import tensorflow as tf

from charlm.network.cells import Mask
from flags.network import ModelConfig

# The number of each flag's stream of random numbers. A number that was given is never given to another flag, so that a
# new option leaves the draws of the others as they are.
STREAMS = {
  'zoneout': 0, 'zoneout_output': 1, 'dropout': 2, 'input_dropout': 3, 'layer_dropout': 4, 'output_dropout': 5,
  'recurrent_dropout': 6, 'embedding_dropout': 7, 'weight_drop': 8, 'reset_probability': 9, 'initial_state': 10,
  'multi_step_input': 11, 'multi_step_mix': 12}
MAX_LAYERS = 1 << 20  # streams of one flag


@dataclasses.dataclass(frozen=True)
class Noise:
  """The random numbers of one training step, all of which follow from these.

  Attributes:
    seed: of the run, 0 to 2**31 - 1.
    step: how many were done before, int64; a number or a scalar.
    first_row: the place of the rows at hand in the batch of all replicas; a number or a scalar.
    batch_size: rows in the batch of all replicas; 0 where those at hand are all.
  """
  seed: Any
  step: Any
  first_row: Any = 0
  batch_size: int = 0

  def key(self, flag: str, layer: int = 0) -> tf.Tensor:
    """What the stateless random operations take as their seed: [2] int64, another for each flag, layer and step."""
    stream = (STREAMS[flag] * MAX_LAYERS + layer) << 32
    return tf.stack([tf.cast(self.seed, tf.int64) + stream, tf.cast(self.step, tf.int64)])

  def of_rows(self, draw: Any, rows: int, axis: int) -> tf.Tensor:
    """Draws for the batch of all replicas, and takes the rows at hand.

    Args:
      draw: (rows of the batch) -> a tensor of random numbers.
      rows: at hand.
      axis: of the rows in that tensor.
    """
    whole = draw(self.batch_size or rows)
    begin, size = [0] * whole.shape.rank, [-1] * whole.shape.rank
    begin[axis], size[axis] = self.first_row, rows
    return tf.slice(whole, begin, size)

  def uniform(self, flag: str, rows: int) -> tf.Tensor:
    """[rows] float32 in [0, 1)."""
    return self.of_rows(lambda n: tf.random.stateless_uniform([n], self.key(flag), alg='philox'), rows, 0)

  def normal(self, flag: str, rows: int, units: int) -> tf.Tensor:
    """[rows, units] float32, of mean 0 and standard deviation 1."""
    return self.of_rows(lambda n: tf.random.stateless_normal([n, units], self.key(flag), alg='philox'), rows, 0)

  def keep_mask(self, flag: str, rate: float, shape: tuple[int, int, int], layer: int = 0) -> tf.Tensor:
    """Which units are kept: shape (T, rows, H) -> [T, rows, H] bool, true with probability 1 - rate."""
    steps, rows, units = shape
    return self.of_rows(lambda n: keep_mask((steps, n, units), rate, self.key(flag, layer)), rows, 1)


def keep_mask(shape: tuple[int, int, int], rate: float, key: Any) -> tf.Tensor:
  """Draws which units are kept. A unit takes 8 of the 32 bits of a random integer.

  Args:
    shape: (T, rows, H).
    rate: probability that a unit is dropped; `drawn` says what it is rounded to.
    key: as from `Noise.key`.

  Returns:
    [T, rows, H] bool.
  """
  steps, rows, units = shape
  integers = tf.random.stateless_uniform([steps, rows, -(-units // 4)], key, None, None, tf.int32, alg='philox')
  numbers = tf.reshape(tf.bitcast(integers, tf.uint8), [steps, rows, -1])[..., :units]
  return numbers >= round(256 * rate)


def drawn(rate: float) -> float:
  """The share that `keep_mask` drops: the multiple of 1/256 nearest to the rate."""
  return round(256 * rate) / 256


def scale_of_kept(rate: float) -> float:
  """What the units that are kept are multiplied with, so that the mean stays as it was."""
  return 1 / (1 - drawn(rate))


class Dropout:
  """Drops units in one pass, at the rates of the configuration; nothing where there is no noise."""

  def __init__(self, config: ModelConfig, noise: Noise | None = None):
    self.config, self.noise = config, noise

  def drops(self, flag: str) -> bool:
    """Whether this pass draws numbers for the flag."""
    return self.noise is not None and bool(getattr(self.config, flag))

  def keep_mask(self, flag: str, shape: tuple[int, int, int], layer: int = 0) -> tf.Tensor | None:
    """[T, B, H] bool, or None where all units are kept. --dropout_per=sequence: the same for all tokens."""
    if self.noise is None or not self.drops(flag):
      return None
    steps, rows, units = shape
    once = self.config.dropout_per == 'sequence' and not flag.startswith('zoneout')
    keep = self.noise.keep_mask(flag, getattr(self.config, flag), (1 if once else steps, rows, units), layer)
    return tf.repeat(keep, steps, 0) if once else keep

  def drop(self, flag: str, y: tf.Tensor, layer: int = 0) -> tf.Tensor:
    """y [T, B, n] -> the same, a share of it 0 and the rest scaled up."""
    keep = self.keep_mask(flag, y.shape, layer) if self.drops(flag) else None
    return y if keep is None else tf.where(keep, y * scale_of_kept(getattr(self.config, flag)), 0.0)

  def drop_weights(self, flag: str, weights: tf.Tensor, columns: int, layer: int = 0) -> tf.Tensor:
    """weights [n, m] -> the same, a share of them 0 and the rest scaled up, alike for all rows of the batch.

    columns: m, or 1 to drop whole rows of the matrix.
    """
    if self.noise is None or not self.drops(flag):
      return weights
    rate = getattr(self.config, flag)
    keep = keep_mask((1, weights.shape[0], columns), rate, self.noise.key(flag, layer))[0]
    return tf.where(keep, weights * scale_of_kept(rate), 0.0)

  def mask(self, flag: str, shape: tuple[int, int, int], layer: int) -> Mask:
    """The mask of a cell that a flag asks for.

    Zoneout without noise keeps no unit back: each moves by the share of units that moves in training.
    """
    rate, zoneout = getattr(self.config, flag), flag.startswith('zoneout')
    if self.noise is None:
      return Mask(None, 1 - drawn(rate) if zoneout else 1.0)
    return Mask(self.keep_mask(flag, shape, layer), 1.0 if zoneout else scale_of_kept(rate))
