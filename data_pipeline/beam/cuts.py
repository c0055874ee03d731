"""Cuts a text into pieces that are tokenized apart, and give the tokens that the whole text has.

No token of any tokenizer crosses the end of a line, so that is where pieces end. Where there is none for a long way
(LONGEST_LINE), a piece ends where a character does; then a word that is cut in two may have other SentencePiece tokens.
"""
from typing import NamedTuple

from data_pipeline.corpus.text import Text

PIECE_BYTES = 64 << 20
LOOKED_AT = 1 << 12, 1 << 22  # bytes after a place where a piece may end, first a few of them
LONGEST_LINE = LOOKED_AT[-1]


class Piece(NamedTuple):
  """A part of a split, whose tokens are a shard."""
  split: str
  text: Text
  first: bool  # whether it is the first of its split
  last: bool


def pieces(splits: dict[str, Text], separator: bytes) -> list[Piece]:
  """The pieces of all splits, in order.

  Args:
    splits: {split: its text}.
    separator: bytes that end a document; none crosses the end of a piece. Empty where there are none.
  """
  found = []
  for split, text in splits.items():
    places = [0]
    while places[-1] < text.num_bytes:
      places.append(_end(text, places[-1] + PIECE_BYTES, separator))
    last = len(places) - 2
    found += [Piece(split, text.slice(places[i], places[i + 1]), i == 0, i == last) for i in range(last + 1)]
  return found


def _end(text: Text, place: int, separator: bytes) -> int:
  """The end of a piece that ends at `place` or a little later; if the part there is read from its start, with it."""
  if place < text.num_bytes:
    part, start, stop = text.part_at(place)
    place = _cut(text, place, separator) if part.seeks or place == start else stop
  return min(place, text.num_bytes)


def _cut(text: Text, place: int, separator: bytes) -> int:
  """The first place from `place` on where a piece may end."""
  before = max(1, len(separator))
  for ahead in LOOKED_AT:
    near = text.read(place - before, place + ahead + before)
    at = place - max(place - before, 0)  # in `near`
    end = near.find(b'\n', at - 1, at + ahead)
    while end >= 0:
      if not _is_inside(near, end + 1, separator):
        return place + end + 1 - at
      end = near.find(b'\n', end + 1, at + ahead)
    if place + ahead >= text.num_bytes:
      return text.num_bytes
  starts = (i for i in range(at, len(near)) if near[i] & 0xC0 != 0x80 and not _is_inside(near, i, separator))
  return place + next(starts, at) - at


def _is_inside(near: bytes, place: int, separator: bytes) -> bool:
  """Whether a separator, wherever it begins, goes across a place."""
  return len(separator) > 1 and separator in near[max(0, place - len(separator) + 1):place + len(separator) - 1]
