"""Stop texts: a text ends before the first of them, wherever tokens and calls cut it.

A stop state is that of the automaton of `charlm/generation/automaton.py`, or that the text has stopped.
"""
import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from charlm.generation.automaton import automaton
from charlm.serving.texts import less


class Stops:
  """The automaton of some stop texts, none of which holds another. State 0 is nothing, the last one is a stop."""

  def __init__(self, texts: Sequence[bytes], pieces: Sequence[bytes]):
    """texts: may be empty, and nothing stops then. pieces: of each token."""
    self.texts = texts
    self._begun, after, found = automaton(texts, pieces)
    self.stopped = len(self._begun)  # the state
    if texts:
      after[found] = self.stopped
      self._after = tf.constant(np.pad(after, [[0, 1], [0, 0]], constant_values=self.stopped))

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
