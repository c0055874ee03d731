"""What decides beside the logits: a penalty on tokens that were read or written not long ago, and banned texts.

Both look back, so the state of a text has a memory beside the network's state:

    constraints = Constraints(tokenizer, repetition_penalty=1.5, ban=['Chapter'])
    advance, state = constraints.remember(advance, state)
    logits, state = prefill(advance, tokens, lengths, state)
    generate(advance, logits, state, constrain=constraints.apply, ...)

Whatever reads a token with that `advance`, the prompt included, keeps the memory. So a text does not depend on the
number of calls that write it.
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from charlm.generation.automaton import automaton
from charlm.generation.decoding import Advance
from data_pipeline.tokenizers.base import Tokenizer
from flags import typed
from flags.errors import UserError

MOST_ENTRIES = 2**25  # of the table of banned texts


class Remembered(NamedTuple):
  """The state of B texts and what constraints look back on."""
  network: Any
  recent: tf.Tensor  # [B, N] int32: the last N tokens, the last one last; V where there were fewer
  begun: tf.Tensor  # [B, 1] int32: how much of a banned text stands at the end


class Constraints:
  """A repetition penalty and bans.

  Attributes:
    window: tokens that the penalty looks back on, 0 without one.
  """

  def __init__(self, tokenizer: Tokenizer, *, repetition_penalty: float = 1.0, repetition_window: int = 64,
               ban: Sequence[str] = (), ban_unknown: bool = False):
    """Makes the table of what is banned.

    Args:
      tokenizer: the model's.
      repetition_penalty: each token that is among the last `repetition_window`, those of the prompt included, has its
        probability divided by this before the temperature, as with the presence penalty of OpenAI's interface, which
        is its logarithm. CTRL's rule (Keskar et al. 2019) divides the logit instead, which makes a token likelier where
        that is negative, and depends on what is added to all logits, as a softmax does not.
      repetition_window: N, at least 1.
      ban: texts that are never written: no token is, with which or within which one of them would end, be it begun by
        the prompt.
      ban_unknown: whether tokens that stand for unknown characters are never written.

    Raises:
      UserError: the bans leave nothing to write, or are too many for a table.
    """
    self._vocab_size, self._penalty = tokenizer.vocab_size, repetition_penalty
    self.window = repetition_window if repetition_penalty > 1 else 0
    unknown = tokenizer.unknown_ids if ban_unknown else []
    self._bans = bool(ban or unknown)
    if self._bans:
      texts = [text.encode() for text in ban]
      if (sum(map(len, texts)) + 1) * self._vocab_size > MOST_ENTRIES:
        raise UserError(f'--ban: expected at most {MOST_ENTRIES // self._vocab_size - 1:,} bytes of text beside the '
                        f'{self._vocab_size:,} tokens of this model')
      after, banned = _table(texts, unknown, tokenizer.pieces)
      if banned[0].all():
        given = ' '.join([*(f'--ban={typed.escaped(text)}' for text in ban), *['--ban_unknown'] * ban_unknown])
        raise UserError(f'{given}: expected fewer bans: they leave this model nothing to write')
      self._after, self._banned = tf.constant(after), tf.constant(banned)

  def __bool__(self) -> bool:
    """Whether they constrain anything."""
    return self._bans or self.window > 0

  def remember(self, advance: Advance, state: Any) -> tuple[Advance, Remembered]:
    """Adds the memory to a step function and to the state of B texts that begin.

    Args:
      advance: as in `decoding.generate`.
      state: a nest of [B, n].
    """
    rows = tf.shape(tf.nest.flatten(state)[0])[0]
    recent = tf.fill([rows, self.window], self._vocab_size)

    def remembering(token: tf.Tensor, state: Remembered) -> tuple[tf.Tensor, Remembered]:
      logits, network = advance(token, state.network)
      recent = tf.concat([state.recent[:, 1:], token[:, None]], 1) if self.window else state.recent
      place = tf.concat([state.begun, token[:, None]], 1)
      begun = tf.gather_nd(self._after, place)[:, None] if self._bans else state.begun
      return logits, Remembered(network, recent, begun)

    return remembering, Remembered(state, recent, tf.zeros([rows, 1], tf.int32))

  def recalled(self, network: Any, ids: Sequence[np.ndarray]) -> Remembered:
    """The state of B texts that were read elsewhere.

    Args:
      network: of the network, a nest of [B, n].
      ids: of each text, its last tokens [n]; those before do not count.
    """
    recent, begun = np.full([len(ids), self.window], self._vocab_size, np.int32), np.zeros([len(ids), 1], np.int32)
    for i, row in enumerate(ids):
      last = row[max(0, len(row) - self.window):]
      recent[i, self.window - len(last):] = last
    if self._bans:
      after = self._after.numpy()
      for i, row in enumerate(ids):
        for token in row:
          begun[i] = after[begun[i], token]
    return Remembered(network, tf.constant(recent), tf.constant(begun))

  def apply(self, logits: tf.Tensor, state: Remembered) -> tf.Tensor:
    """[B, V] -> the logits that a token is chosen by: less of what was written not long ago, -inf of what is banned."""
    if self.window:
      rows, wide = tf.shape(logits)[0], tf.pad(logits, [[0, 0], [0, 1]])  # a place for V, which is no token
      places = tf.stack([tf.broadcast_to(tf.range(rows)[:, None], tf.shape(state.recent)), state.recent], 2)
      less = tf.gather_nd(wide, places) - np.float32(np.log(self._penalty))
      logits = tf.tensor_scatter_nd_update(wide, places, less)[:, :-1]
    return tf.where(tf.gather(self._banned, state.begun[:, 0]), -np.inf, logits) if self._bans else logits


def _table(texts: Sequence[bytes], ids: Sequence[int], pieces: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
  """The states after each token, and which tokens are banned: both [states, V].

  Args:
    texts, ids: that are banned.
    pieces: the bytes of each token.
  """
  _, after, banned = automaton(texts, pieces)
  banned[:, list(ids)] = True
  dead: np.ndarray = np.all(banned, 1)
  while (more := banned | dead[after]).sum() > banned.sum():  # what leads to where nothing may follow
    banned = more
    dead = np.all(banned, 1)
  # A prompt may lead there; what it has begun does not count then.
  banned[dead] = banned[0]
  return after, banned
