"""Written bytes as text: what is valid UTF-8, in core operations."""
import tensorflow as tf


def valid_utf8(text: tf.Tensor) -> tf.Tensor:
  """[B] string -> the same without an unfinished character at the end, and with U+FFFD for other invalid bytes."""
  return tf.strings.unicode_transcode(less(text, unfinished(text)), 'UTF-8', 'UTF-8', errors='replace')


def less(text: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """[B] string, [B] int32 -> the texts without so many bytes at their ends."""
  return tf.strings.substr(text, tf.zeros_like(count), tf.strings.length(text) - count)


def unfinished(text: tf.Tensor) -> tf.Tensor:
  """[B] string -> [B] int32: the bytes at its end that begin a character and need more, 0 to 3.

  The Unicode Standard 15, table 3-7: a character is a first byte and the bytes that may come after it.
  """
  padded = tf.strings.join(['aaa', text])  # so that there are three bytes at the end
  before = tf.strings.length(text)
  tails = tf.strings.substr(padded, before, tf.fill(tf.shape(before), 3))
  codes = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(tails), tf.uint8), tf.int32)  # joined: it pads what differs
  third, second, last = tf.unstack(tf.reshape(codes, [-1, 3]), axis=1)

  def within(x: tf.Tensor, low: int | tf.Tensor, high: int | tf.Tensor) -> tf.Tensor:
    return tf.logical_and(x >= low, x <= high)

  def begins(first: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Whether two bytes may be the first of three or four."""
    low = tf.where(tf.equal(first, 0xE0), 0xA0, tf.where(tf.equal(first, 0xF0), 0x90, 0x80))
    high = tf.where(tf.equal(first, 0xED), 0x9F, tf.where(tf.equal(first, 0xF4), 0x8F, 0xBF))
    return tf.logical_and(within(first, 0xE0, 0xF4), within(after, low, high))

  three = within(third, 0xF0, 0xF4) & begins(third, second) & within(last, 0x80, 0xBF)
  return tf.where(three, 3, tf.where(begins(second, last), 2, tf.where(within(last, 0xC2, 0xF4), 1, 0)))
