"""One text, as it is written."""
from collections.abc import Generator, Iterator

import numpy as np

from charlm.generation.session import Session, SessionState
from charlm.generation.text_stream import TextStream
from charlm.interface.state import State, saved
from charlm.interface.writing import Opening, read

BLOCK = 16  # tokens that are written at a time; the text does not depend on it


class Stream(Iterator[str]):
  """The parts of a text, as they are written; joined, they are the text. It may be left at any time."""

  def __init__(self, session: Session, opening: Opening, text: TextStream, length: int):
    """Nothing is read or written before the first part is asked for.

    Args:
      session: of one text.
      opening: what it goes on from.
      text: turns tokens into characters.
      length: tokens to write, at most.
    """
    self._session, self._opening, self._text = session, opening, text
    self._now: SessionState | None = None
    self._tokens = [opening.ids]
    self._parts = self._write(length)

  def __next__(self) -> str:
    return next(self._parts)

  def close(self) -> None:
    """Ends the text where it is."""
    self._parts.close()

  @property
  def state(self) -> State:
    """Where the text stands: after its last token once it has ended, and before that after all that was written."""
    return saved(self._session, self._reached(), [self._opening.state], [np.concatenate(self._tokens)])[0]

  def _reached(self) -> SessionState:
    if self._now is None:
      self._now = read(self._session, [self._opening])
    return self._now

  def _write(self, left: int) -> Generator[str, None, None]:
    while left and not self._text.stopped:
      before = self._reached()
      tokens, _, after = self._session.write(min(BLOCK, left), before)
      parts, used = [], 0
      while used < tokens.size and not self._text.stopped:
        parts.append(self._text.push(tokens[0, used:used + 1]))
        used += 1
      if used < tokens.size:  # the model must not have read on, past the stop text
        after = self._session.write(used, before).state
      self._now, left = after, left - used
      self._tokens.append(tokens[0, :used])
      if part := ''.join(parts):
        yield part
    if part := self._text.end():
      yield part
