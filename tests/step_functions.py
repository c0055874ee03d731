"""A step function and a model around it, small enough to follow by hand; and a tokenizer that knows some letters."""
import numpy as np
import tensorflow as tf

from flags.network import ModelConfig

V = 7
TABLE = np.random.default_rng(0).normal(size=(V, V)).astype('float32')


def chain(tokens, state):
  """Logits follow from the last token and from the sum of all of them."""
  state = state + tf.cast(tokens, tf.float32)[:, None]
  return tf.gather(TABLE, tokens) + tf.math.sin(state), state


def begin(rows):
  """Logits [B, V] and state where a text starts."""
  return tf.tile(TABLE[:1], [rows, 1]), tf.zeros([rows, 1])


class Chain:
  """What a session asks of a model."""
  vocab_size = V

  def __init__(self):
    self.config, self.weight = ModelConfig(), tf.Variable(1.0)

  def initial_state(self, rows):
    return tf.zeros([rows, 1])

  def portable(self):
    return self

  def stepper(self):
    weight = self.weight.read_value()

    def advance(tokens, state):
      logits, state = chain(tokens, state)
      return logits * weight, state

    return advance


class Letters:
  """A tokenizer that knows some letters; id 0 is any other."""

  def __init__(self, known):
    self.known = '?' + known

  def encode(self, text):
    return np.array([max(0, self.known.find(chr(byte))) for byte in text], np.int32)

  def decode(self, ids):
    return ''.join(self.known[i] for i in ids).encode()

  def encode_tf(self, text):
    codes = tf.strings.unicode_decode(text, 'UTF-8')
    table = np.zeros(128, np.int32)
    table[[ord(c) for c in self.known]] = range(len(self.known))
    return codes.with_values(tf.gather(table, codes.values))
