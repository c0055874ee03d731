"""Where the tokens of many texts lie in rows that are read side by side, a chunk of T tokens at a time.

The texts follow each other. Each document begins at the start of a chunk; what is left of its last chunk is not used:

    row 0  |text 0..... ......|text 1. ......|text 2..... ...|
    row 1  |.. ......|text 3. ......|                        |

A document that is short for a row is not cut; a longer one goes on in the next row.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.rows import LEAST_EVALUATED, Rows, evaluation_batch_size

CHUNK_LENGTHS = 64, 32, 16, 8  # T is one of these
CHUNK_COST = 4  # tokens of each row that could be read in the time that a chunk takes beside its tokens
UNCUT = 8  # documents that are longer than a row divided by this may be cut
LOGITS = 1 << 26  # numbers, 256 MB, that a chunk of all rows makes at most


class Tokens(NamedTuple):
  """A text."""
  ids: np.ndarray  # [N]
  documents: Sequence[int] | np.ndarray = ()  # ascending indices of tokens where a document starts; 0 need not be there


class Chunk(NamedTuple):
  """A chunk of every row."""
  inputs: np.ndarray  # [B, T] int32
  targets: np.ndarray  # [B, T] int32
  reset: np.ndarray  # [B] bool: the row starts a document with this chunk


class Shape(NamedTuple):
  """Of a chunk."""
  rows: int  # B
  length: int  # T


class Layout:
  """Texts in rows. It is an iterable over the chunks.

  Attributes:
    shape: of the chunks.
    rows: the rows, as one text.
  """

  def __init__(self, texts: Sequence[Tokens], start: int, vocab_size: int, shape: Shape | None = None) -> None:
    """Lays texts out.

    Args:
      texts: at least one.
      start: the token that is read before each text.
      vocab_size: V.
      shape: of the chunks; chosen by default.
    """
    cuts = [np.unique([0, *text.documents, len(text.ids)]) for text in texts]
    sizes = np.concatenate([np.diff(cut) for cut in cuts])  # of the documents that have tokens
    self.shape = shape or _shape(sizes, vocab_size)
    self.rows, places = _places(sizes, self.shape)
    self._places = np.split(places, np.cumsum([len(cut) - 1 for cut in cuts])[:-1])  # of each text
    self._cuts = cuts
    self._inputs, self._targets = (np.zeros(self.shape.rows * self.rows.length, np.int32) for _ in range(2))
    self._reset = np.zeros(self._inputs.size // self.shape.length, bool)
    self._reset[places // self.shape.length] = True
    for text, places, cut in zip(texts, self._places, cuts, strict=True):
      before = np.concatenate([[start], text.ids[:-1]]) if len(text.ids) else text.ids
      for place, begin, end in zip(places, cut[:-1], cut[1:], strict=True):
        self._inputs[place:place + end - begin] = before[begin:end]
        self._targets[place:place + end - begin] = text.ids[begin:end]

  def __iter__(self) -> Iterator[Chunk]:
    """The chunks."""
    B, T = self.shape
    inputs, targets = (flat.reshape(B, -1, T).swapaxes(0, 1) for flat in (self._inputs, self._targets))
    yield from map(Chunk, inputs, targets, self._reset.reshape(B, -1).T)

  def of_texts(self, chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Values of the tokens of each chunk, [B, T, ..] -> those of each text, [N, ..]."""
    flat = np.stack(chunks, 1).reshape(self._inputs.size, *chunks[0].shape[2:])
    for places, cut in zip(self._places, self._cuts, strict=True):
      parts = [flat[place:place + size] for place, size in zip(places, np.diff(cut), strict=True)]
      yield np.concatenate(parts) if parts else flat[:0]


def _shape(sizes: np.ndarray, vocab_size: int) -> Shape:
  """The shape of chunks for documents of these sizes. B and T are powers of two, so that few shapes are compiled."""
  slots = {T: int((-(-sizes // T) * T).sum()) for T in CHUNK_LENGTHS}
  length = min(CHUNK_LENGTHS, key=lambda T: slots[T] * (1 + CHUNK_COST / T))
  # Short documents need no long rows, as they are not cut.
  least = min(LEAST_EVALUATED, max(length, UNCUT * int(sizes.max(initial=0))))
  rows = evaluation_batch_size(slots[length] * LEAST_EVALUATED // least)
  rows = min(rows, max(1, LOGITS // (vocab_size * CHUNK_LENGTHS[-1])))
  rows = 1 << rows.bit_length() - 1
  return Shape(rows, next((T for T in CHUNK_LENGTHS if length >= T and rows * T * vocab_size <= LOGITS),
                          CHUNK_LENGTHS[-1]))


def _places(sizes: np.ndarray, shape: Shape) -> tuple[Rows, np.ndarray]:
  """Documents of these sizes -> rows with room for all, and where in the rows, joined, each begins."""
  B, T = shape
  sizes = -(-sizes // T) * T
  length = max(T, -(-int(sizes.sum()) // (B * T)) * T)
  while (places := _fill(sizes.tolist(), length))[-1] > B * length:
    length += -(-length // (64 * T)) * T
  return Rows(places[-1] + 1, B, length, unbroken=True), np.array(places[:-1], np.int64)


def _fill(sizes: Sequence[int], length: int) -> list[int]:
  """Where in rows of this length documents begin, and where the last one ends."""
  end, places = 0, []
  for size in sizes:
    room = -end % length
    if size > room and size * UNCUT <= length:
      end += room
    places.append(end)
    end += size
  return [*places, end]
