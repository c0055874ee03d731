"""Sessions whose texts are given."""
from typing import NamedTuple

import numpy as np

from charlm.generation.session import Written
from data_pipeline.tokenizers.byte import ByteTokenizer

BYTES = ByteTokenizer()


class State(NamedTuple):
  """What was read and written, and the number of tokens written."""
  history: bytes
  written: int


class Script:
  """A session of some texts, which are written again and again; what was written and changed is kept."""

  def __init__(self, *texts):
    self.texts = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    self.calls, self.changes, self.dropped = [], [], 0

  def read(self, prompts, state=None):
    ids, = prompts
    history, written = state or (b'', 0)
    self.history = history + BYTES.decode(ids)
    return State(self.history, written)

  def write(self, length, state):
    self.calls.append(length)
    tokens = np.stack([np.resize(np.roll(text, -int(np.max(state.written))), length) for text in self.texts])
    after = State(state.history + BYTES.decode(tokens[0]), state.written + length)
    return Written(tokens, np.zeros(tokens.shape), after)

  def drop(self, tokens):
    self.dropped += tokens

  def change(self, **options):
    self.changes.append(options)
