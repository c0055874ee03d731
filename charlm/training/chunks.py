"""The chunks that a run trains on, one after the other, from where it stands."""
from collections.abc import Iterator
from typing import Any

from charlm.training.distribution import Distribution
from data_pipeline import streams
from data_pipeline.rows import Cursor, training_rows
from data_pipeline.token_files import TokenFile
from flags.data import DataConfig


class TrainingChunks:
  """The training split as chunks of every row. Where it stands is a cursor, so that a run can go on from any chunk.

  Attributes:
    cursor: passes finished, and tokens into the rows.
  """

  def __init__(self, config: DataConfig, file: TokenFile, distribution: Distribution):
    """file: the TokenFile of the training split."""
    self._config, self._file, self._distribution = config, file, distribution
    self._rows = training_rows(file.num_tokens, config.batch_size)
    self.cursor = Cursor()
    self._length, self._counts = 0, set[int]()  # of the chunks so far: their length, how many at once
    self._stream: Iterator[Any] = iter(())

  def state(self) -> dict[str, Any]:
    """Where it stands, for a checkpoint."""
    return {'epoch': self.cursor.epoch, 'offset': self.cursor.offset}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes to where a checkpoint says."""
    self.cursor = Cursor(state['epoch'], state['offset'])

  def epochs(self) -> float:
    """Passes over the text so far."""
    return self._rows.epochs(self.cursor)

  def length(self, progress: float) -> int:
    """Tokens of a chunk, T, when this share of the run is done."""
    lengths = self._config.lengths
    return lengths[min(int(progress * len(lengths)), len(lengths) - 1)]

  def ahead(self, count: int, progress: float) -> list[float]:
    """The passes over the text before each of the next chunks: of `count`, or fewer where the pass ends.

    Args:
      count: how many.
      progress: share of the run that is done.
    """
    length, cursor = self.length(progress), self.cursor
    found: list[float] = []
    while len(found) < count and cursor.epoch == self.cursor.epoch:
      found.append(self._rows.epochs(cursor))
      cursor = self._rows.after(cursor, length=length, stride=length - self._config.chunk_overlap)
    return found

  def next(self, progress: float, count: int = 1) -> tuple[list[Any], int, bool]:
    """Moves on by `count` chunks, all of the length that has its turn.

    Returns:
      the batches, per replica where there are several; their tokens; and whether they are the first of their length and
      count, for which the step has yet to be compiled.
    """
    length, first = self.length(progress), count not in self._counts
    if length != self._length:
      self._length, first, self._counts = length, True, set()
      self._stream = self._open(length)
    self._counts.add(count)
    batches = [next(self._stream) for _ in range(count)]
    for _ in range(count):
      self.cursor = self._rows.after(self.cursor, length=length, stride=length - self._config.chunk_overlap)
    return batches, count * self._config.batch_size * length, first

  def _open(self, length: int) -> Iterator[Any]:
    file, offset = self._file, self.cursor.offset
    return iter(self._distribution.batches(lambda context: streams.training_stream(
        streams.mapped(file), self._rows, length=length, offset=offset, context=context,
        stride=length - self._config.chunk_overlap, starts=streams.mapped_starts(file))))


def steps_of_epoch(config: DataConfig, num_tokens: int) -> list[int]:
  """Steps in a pass over so many tokens, for each chunk length that has its turn."""
  rows = training_rows(num_tokens, config.batch_size)
  return [rows.steps(length=length, stride=length - config.chunk_overlap) for length in config.lengths]
