"""Stop texts: a text ends before the first of them, wherever tokens and calls cut it.

A stop state says how much of a stop text stands at the end of what was written: the longest end that begins one (Aho,
Corasick 1975). What a token does to it is a table, so that the loop over tokens handles no strings.
"""
import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from charlm.serving.texts import less


class Stops:
  """The automaton of some stop texts, none of which holds another. State 0 is nothing, the last one is a stop."""

  def __init__(self, texts: Sequence[bytes], pieces: Sequence[bytes]):
    """texts: may be empty, and nothing stops then. pieces: of each token."""
    self.texts = texts
    self._begun = sorted({text[:n] for text in texts for n in range(len(text))} | {b''})  # what a state stands for
    self.stopped = len(self._begun)  # the state
    if texts:
      self._after = tf.constant(self._transitions(pieces))

  def _transitions(self, pieces: Sequence[bytes]) -> np.ndarray:
    """[states, V] int32: the state after a token."""
    number, count = {text: i for i, text in enumerate(self._begun)}, len(self._begun)

    def follow(text: bytes) -> int:
      if any(stop in text for stop in self.texts):
        return self.stopped
      return next(number[text[i:]] for i in range(len(text) + 1) if text[i:] in number)

    of_bytes = np.full([count + 1, 256], self.stopped, np.int32)
    of_bytes[:count] = [[follow(text + bytes([byte])) for byte in range(256)] for text in self._begun]
    tables = []
    for piece in pieces:
      states = np.arange(count + 1, dtype=np.int32)
      for byte in piece:
        states = of_bytes[states, byte]
      tables.append(states)
    return np.stack(tables, 1)

  def advance(self, state: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """[B] states, [B] tokens -> [B] states."""
    return tf.gather_nd(self._after, tf.stack([state, token], 1)) if self.texts else state

  def done(self, state: tf.Tensor) -> tf.Tensor:
    """[B] bool: whether the text has stopped."""
    return tf.equal(state, self.stopped) if self.texts else tf.zeros_like(state, tf.bool)

  def none_done(self, state: tf.Tensor) -> tf.Tensor:
    """Whether no row has stopped, for loops."""
    return tf.logical_not(tf.reduce_any(self.done(state))) if self.texts else tf.constant(True)

  def cut(self, text: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
    """[B] whole texts -> [B], those that have stopped without the stop text and what follows it."""
    if not self.texts:
      return text
    either = '|'.join(re.escape(stop.decode()) for stop in self.texts)
    return tf.where(self.done(state), tf.strings.regex_replace(text, f'(?:{either})\\C*', '', False), text)

  def release(self, before: tf.Tensor, written: tf.Tensor, after: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """What of a text that is written block by block is certain to be part of it.

    Args:
      before: [B], the state before the block.
      written: [B] string, the block.
      after: [B], the state after it.
      last: [B] bool, nothing is held back.

    Returns:
      [B] string: what was held back before and what was written, less what may turn out to begin a stop text.
    """
    if not self.texts:
      return written
    begun = tf.constant([*self._begun, b''])
    text = tf.strings.join([tf.gather(begun, before), written])
    held = tf.where(last, 0, tf.gather(tf.strings.length(begun), after))
    return self.cut(less(text, held), after)

  def forgotten(self, state: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """[B] states, with nothing begun where nothing was held back; what has stopped stays so."""
    return tf.where(tf.logical_and(last, state < self.stopped), 0, state)
