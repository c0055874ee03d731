"""Reads runs of tokens from shards, wherever they begin.

The records that the rows of a batch are in are kept in memory, and so are those before them. A row comes to another
record every RECORD_TOKENS tokens; that is read and checked then, from another machine several at a time. To map files
into memory would save nothing, and end the process where one is cut short.
"""
import collections
import concurrent.futures
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline import remote
from data_pipeline.shards import RECORD_TOKENS, Layout, Shard
from flags.errors import RunError

if TYPE_CHECKING:
  import tensorflow as tf

FETCHED_AT_ONCE = 16
Key = tuple[int, int]  # a shard, and a record of it
Record = tuple[np.ndarray, np.ndarray]  # ids [n], starts [n] bool


class ShardReader:
  """Reads the tokens of a split, for any number of rows and threads."""

  def __init__(self, folder: str, shards: Sequence[Shard], layout: Layout):
    """folder: where the shards are, a path or an address."""
    self._folder, self._shards, self._layout = folder, shards, layout
    self._begins = np.cumsum([0, *(shard.num_tokens for shard in shards)])
    self._records: collections.OrderedDict[Key, Record] = collections.OrderedDict()
    self._lock = threading.Lock()
    self._pool: concurrent.futures.ThreadPoolExecutor | None = None

  def tokens(self, where: np.ndarray) -> np.ndarray:
    """The ids in places [B, n], each row of which is a run, of which the last place may be repeated: [B, n]."""
    found = np.empty(where.shape, self._layout.dtype)
    for row, target in zip(self._runs(where), found, strict=True):
      filled = 0
      for (ids, _), first, stop in row:
        target[filled:filled + stop - first] = ids[first:stop]
        filled += stop - first
      target[filled:] = target[filled - 1]
    return found

  def starts(self, where: np.ndarray) -> np.ndarray:
    """Whether the tokens in places [B, n] are read from the initial state: [B, n] bool. False beyond the end."""
    found = np.zeros(where.shape, bool)
    for row, target in zip(self._runs(where), found, strict=True):
      filled = 0
      for (_, starts), first, stop in row:
        target[filled:filled + stop - first] = starts[first:stop]
        filled += stop - first
    return found

  def tokens_tf(self, where: 'tf.Tensor') -> 'tf.Tensor':
    """`tokens` in a graph: int32."""
    import tensorflow as tf
    found = tf.numpy_function(lambda places: self.tokens(places).astype(np.int32), [where], tf.int32)
    found.set_shape(where.shape)
    return found

  def starts_tf(self, where: 'tf.Tensor') -> 'tf.Tensor':
    """`starts` in a graph."""
    import tensorflow as tf
    found = tf.numpy_function(self.starts, [where], tf.bool)
    found.set_shape(where.shape)
    return found

  def _runs(self, where: np.ndarray) -> list[list[tuple[Record, int, int]]]:
    """(record, first, stop) of what each row of the places is made of."""
    pieces = [[*self._pieces(int(row[0]), int(row[-1]) + 1)] for row in where]
    with self._lock:
      records = self._load(dict.fromkeys(key for row in pieces for key, _, _ in row))
    return [[(records[key], first, stop) for key, first, stop in row] for row in pieces]

  def _pieces(self, place: int, stop: int) -> Iterator[tuple[Key, int, int]]:
    """(record, first, stop) of the tokens from `place` to `stop`, or to the end."""
    stop = min(stop, int(self._begins[-1]))
    while place < stop:
      shard = int(np.searchsorted(self._begins, place, 'right')) - 1
      begin, end = int(self._begins[shard]), int(self._begins[shard + 1])
      number, first = divmod(place - begin, RECORD_TOKENS)
      count = min(stop, end, begin + (number + 1) * RECORD_TOKENS) - place
      yield (shard, number), first, first + count
      place += count

  def _load(self, keys: dict[Key, None]) -> dict[Key, Record]:
    """The records of these keys, which are kept, and as many that were used before."""
    missing = [key for key in keys if key not in self._records]
    if len(missing) > 1 and remote.is_address(self._folder):
      self._pool = self._pool or concurrent.futures.ThreadPoolExecutor(FETCHED_AT_ONCE)
      self._records.update(zip(missing, self._pool.map(self._read, missing), strict=True))
    else:
      self._records.update((key, self._read(key)) for key in missing)
    for key in keys:
      self._records.move_to_end(key)
    while len(self._records) > 2 * len(keys):
      self._records.popitem(last=False)
    return {key: self._records[key] for key in keys}

  def _read(self, key: Key) -> Record:
    """Raises RunError where a record cannot be read any more, or is damaged."""
    number, record = key
    shard = self._shards[number]
    num_tokens = min(RECORD_TOKENS, shard.num_tokens - record * RECORD_TOKENS)
    path, offset = remote.join(self._folder, shard.name), record * self._layout.size(RECORD_TOKENS)
    try:
      return self._layout.unpack(remote.read(path, offset, self._layout.size(num_tokens)), num_tokens)
    except OSError as error:
      raise RunError(f'{path}: these tokens cannot be read any more ({remote.reason(error)}). Bring them back, then '
                     'run the same command again') from error
    except ValueError as error:
      raise RunError(f'{path}: is damaged: {error}, at offset {offset:,}. Copy it again, or prepare the corpus again'
                     ) from error
