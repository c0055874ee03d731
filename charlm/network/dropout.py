"""What chance takes from a training step: which numbers are dropped, and which rows start afresh.

All of it follows from (seed, step), the flag that asks for it, the layer and the row: a run that goes on, and any
number of replicas, draw the same. alg='philox' is named because XLA on a CPU is 60 times slower with the default.
"""
import tensorflow as tf

from charlm.network import cells

# Each flag draws from a seed of its own, by its place here.
FLAGS = ('zoneout', 'zoneout_output', 'dropout', 'input_dropout', 'layer_dropout', 'output_dropout',
         'recurrent_dropout', 'embedding_dropout', 'weight_drop', 'reset_probability', 'initial_state')


class Draws:
  """The draws of one step, or of none where it is not training."""

  def __init__(self, config, batch_size, *, training, seed=None, rows=None):
    """config: a ModelConfig. batch_size: B. seed, rows: as in `LanguageModel.__call__`."""
    self.config, self.batch_size, self.training, self.seed = config, batch_size, training, seed
    self.rows = rows or (0, batch_size)

  def drops(self, flag):
    return self.training and bool(getattr(self.config, flag))

  def seed_of(self, flag, layer=0):
    return self.seed[0], (len(FLAGS) * self.seed[1] + FLAGS.index(flag)) * self.config.layers + layer

  def _own_rows(self, drawn_rows):
    first, _ = self.rows
    return tf.slice(drawn_rows, [first, 0], [self.batch_size, -1])

  def kept(self, flag, steps, units, layer=0):
    """Which numbers stay: [steps, B, units] bool, or None for all. --dropout_per=sequence: the same at all steps."""
    if not self.drops(flag):
      return None
    once = self.config.dropout_per == 'sequence' and not flag.startswith('zoneout')
    size = (1 if once else steps, self.batch_size, units)
    stays = kept(size, getattr(self.config, flag), self.seed_of(flag, layer), self.rows)
    return tf.repeat(stays, steps, 0) if once else stays

  def drop(self, flag, y, layer=0):
    """y [T, B, n] -> the same, a share dropped and the rest scaled up."""
    stays = self.kept(flag, y.shape[0], y.shape[-1], layer)
    return y if stays is None else tf.where(stays, y * up(getattr(self.config, flag)), 0.0)

  def drop_weights(self, flag, weights, columns, layer=0):
    """weights [n, m] -> the same, a share dropped; columns: m, or 1 where a row goes as one. The same in all rows."""
    if not self.drops(flag):
      return weights
    rate, count = getattr(self.config, flag), weights.shape[0]
    return tf.where(kept((1, count, columns), rate, self.seed_of(flag, layer), (0, count))[0], weights * up(rate), 0.0)

  def mask(self, flag, steps, units, layer):
    """A cell's mask. Zoneout in evaluation: all numbers move by the share that does in training."""
    rate, zoneout = getattr(self.config, flag), flag.startswith('zoneout')
    calm = 1 - drawn(rate) if zoneout else 1.0
    return cells.Mask(self.kept(flag, steps, units, layer), (1.0 if zoneout else up(rate)) if self.training else calm)

  def chosen(self, flag):
    """[B] bool, true with the probability that the flag says."""
    numbers = tf.random.stateless_uniform([self.rows[1], 1], self.seed_of(flag), alg='philox')
    return self._own_rows(numbers)[:, 0] < getattr(self.config, flag)

  def noise(self, flag, units):
    """[B, units] float32, normal."""
    return self._own_rows(tf.random.stateless_normal([self.rows[1], units], self.seed_of(flag), alg='philox'))


def kept(size, rate, seed, rows):
  """Which numbers stay: size (T, B, H) -> [T, B, H] bool, true with probability 1 - rate.

  Those of the whole batch are drawn and these rows, (first, total), taken. A number takes 8 of the 32 bits of a draw.
  """
  (steps, count, units), (first, total) = size, rows
  draws = tf.random.stateless_uniform([steps, total, -(-units // 4)], seed, None, None, tf.int32, alg='philox')
  draws = tf.slice(draws, [0, first, 0], [steps, count, -1])
  numbers = tf.reshape(tf.bitcast(draws, tf.uint8), [steps, count, -1])[..., :units]
  return numbers >= round(256 * rate)


def drawn(rate):
  """The share that `kept` drops, which is a multiple of 1/256."""
  return round(256 * rate) / 256


def up(rate):
  """What the numbers that stay are multiplied with, so that the mean stays too."""
  return 1 / (1 - drawn(rate))
