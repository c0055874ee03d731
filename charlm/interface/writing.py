"""Writes many texts, a batch of them side by side.

Each text is what it would be alone. A batch has a number of rows that is a power of two, so that few are compiled; rows
that nobody asked for are copies of the last.
"""
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from charlm.generation.session import Session, SessionState, joined, take
from charlm.generation.text_stream import TextStream
from charlm.interface.state import State, resumed, saved
from data_pipeline.tokenizers.base import Tokenizer

ROWS = 64  # of a batch; more take as long for each token
BLOCK = 64  # tokens that are written at a time
LONGEST_CHARACTER = 4  # bytes of UTF-8


class Opening(NamedTuple):
  """What a text goes on from."""
  state: State
  prompt: bytes  # is read first
  ids: np.ndarray  # the same as tokens


def read(session: Session, openings: Sequence[Opening]) -> SessionState:
  """Reads what texts go on from -> where they stand, and copies of the last one."""
  padded = [*openings, *[openings[-1]] * (_rows(len(openings)) - len(openings))]
  return session.read([opening.ids for opening in padded], resumed(session, [opening.state for opening in padded]))


def text_stream(tokenizer: Tokenizer, opening: Opening, stop: Sequence[str]) -> TextStream:
  """What turns the tokens of a text into characters."""
  return TextStream(tokenizer, stop, tokenizer.decode(opening.state.recent[-LONGEST_CHARACTER:]) + opening.prompt)


def batches(session: Session, tokenizer: Tokenizer, wanted: Iterable[tuple[Opening, int]], *, length: int,
            stop: Sequence[str], rows: int = ROWS) -> Iterator['Batch']:
  """Writes texts.

  Args:
    session: the model, with all options but the seeds.
    tokenizer: the model's.
    wanted: what each text goes on from, and its seed. Neighbours that are the same opening share its reading.
    length: tokens of each, at most.
    stop: texts that end one.
    rows: texts side by side, at most.

  Yields:
    The texts in order, a batch as soon as it is written.
  """
  wanted = iter(wanted)
  while some := list(itertools.islice(wanted, rows)):
    batch = Batch(session, tokenizer, [opening for opening, _ in some], [seed for _, seed in some], stop)
    batch.write(length, stops=bool(stop))
    yield batch


class Row:
  """A text that is being written.

  Attributes:
    num_tokens: written, those of a stop text among them.
    log_prob: nats, of these.
    stopped: whether a stop text has turned up.
  """

  def __init__(self, stream: TextStream):
    self._stream, self._parts, self._tokens, self.log_prob = stream, [''], [np.zeros(0, np.int32)], 0.0

  @property
  def num_tokens(self) -> int:
    return sum(map(len, self._tokens))

  @property
  def stopped(self) -> bool:
    return self._stream.stopped

  def tokens(self) -> np.ndarray:
    """[num_tokens]"""
    return np.concatenate(self._tokens)

  def text(self) -> str:
    """What was written. It ends with that."""
    return ''.join([*self._parts, self._stream.end()])

  def add(self, tokens: np.ndarray, log_probs: np.ndarray, stops: bool) -> np.ndarray:
    """Takes in tokens -> those up to a stop text. stops: whether there may be one."""
    if not stops:
      self._parts.append(self._stream.push(tokens))
    for used, token in enumerate(tokens if stops else [], 1):
      self._parts.append(self._stream.push([token]))
      if self.stopped:
        tokens = tokens[:used]
        break
    self._tokens.append(tokens)
    self.log_prob += float(log_probs[:len(tokens)].sum(dtype=np.float64))
    return tokens


class Batch:
  """Texts that are written side by side.

  Attributes:
    rows: the texts.
  """

  def __init__(self, session: Session, tokenizer: Tokenizer, openings: Sequence[Opening], seeds: Sequence[int],
               stop: Sequence[str]):
    """Reads what the texts go on from. Args: as of `batches`, one opening and seed for each text."""
    places = np.cumsum([i > 0 and opening is not openings[i - 1] for i, opening in enumerate(openings)])
    padding = 0, _rows(len(openings)) - len(openings)
    self._openings = openings
    self._state = take(read(session, [openings[i] for i in np.unique(places, return_index=True)[1]]),
                       np.pad(places, padding, 'edge'))
    self._session = session.but(seeds=np.pad(np.array(seeds, np.int64), padding, 'edge'))
    self._ends: dict[int, tuple[SessionState, np.ndarray]] = {}  # where a row stopped: a state, the tokens after it
    self.rows = [Row(text_stream(tokenizer, opening, stop)) for opening in openings]

  def write(self, length: int, stops: bool) -> None:
    """Writes `length` tokens in each row, or as many as it takes until a stop text ends it."""
    for first in range(0, length, BLOCK):
      if all(row.stopped for row in self.rows):
        return
      written = self._session.write(min(BLOCK, length - first), self._state)
      for i, row in enumerate(self.rows):
        if not row.stopped:
          used = row.add(written.tokens[i], written.log_probs[i], stops)
          if row.stopped:
            self._ends[i] = take(self._state, [i]), used
      self._state = written.state

  def states(self) -> list[State]:
    """The states of the texts, each after its own last token."""
    state, rows = self._state, np.arange(_rows(len(self.rows)))
    if self._ends:  # what these have written after their ends must not have been read
      ends = list(self._ends.values())
      ends += ends[-1:] * (_rows(len(ends)) - len(ends))
      before = joined([one for one, _ in ends])
      after = self._session.read([used for _, used in ends], before)
      after = after._replace(written=before.written + np.array([len(used) for _, used in ends]))
      rows[list(self._ends)] = len(rows) + np.arange(len(self._ends))
      state = take(joined([state, after]), rows)
    read_since = [np.concatenate([opening.ids, row.tokens()])
                  for opening, row in zip(self._openings, self.rows, strict=True)]
    return saved(self._session, state, [opening.state for opening in self._openings], read_since)


def rows_within(most: int) -> int:
  """The largest number of rows that a batch may have, if it has at most so many."""
  return 1 << most.bit_length() - 1


def _rows(count: int) -> int:
  """The rows of a batch that has room for so many texts."""
  return 1 << (count - 1).bit_length()
