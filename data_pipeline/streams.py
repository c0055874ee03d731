"""Streams of chunks: a `Batch` holds one chunk of every row of a split (see `rows.py` for the cut).

Where documents matter, some tokens are read from the initial state; the text before them is forgotten.
"""
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from data_pipeline.manifest import ShardedTokens
from data_pipeline.rows import Rows
from data_pipeline.shard_reader import ShardReader
from data_pipeline.token_files import OpenFile, TokenFile

# Integers, or a function that returns them, so that a graph can map a file into memory; or what reads them from shards.
Integers: TypeAlias = np.ndarray | tf.Tensor | Callable[[], tf.Tensor] | ShardReader


class Batch(NamedTuple):
  """A chunk of every row."""
  tokens: tf.Tensor  # [B, T+1] int32: inputs are tokens[:, :-1], targets tokens[:, 1:]
  reset: tf.Tensor  # [B] bool: the row starts new text with this chunk
  weight: tf.Tensor  # [B, T] float32: 0 where a target is padding or already counted
  starts: tf.Tensor | None = None  # [B, T] bool: the input is read from the initial state; None: only `reset` counts


def chunk(tokens: Integers, rows: Rows, offset: tf.Tensor | int, length: int, first_row: int = 0,
          num_rows: int | None = None, starts: Integers | None = None) -> Batch:
  """The chunk at `offset` of the rows, or of some of them.

  Args:
    tokens: the ids [N] of the split.
    rows: how it is cut.
    offset: tokens from the start of the rows; scalar.
    length: T.
    first_row: the first of the rows to read.
    num_rows: how many of them; None: all rows of the split (with first_row 0).
    starts: indices [n] int64, ascending, of the tokens that are read from the initial state.
  """
  row = tf.range(first_row, first_row + (num_rows or rows.batch_size), dtype=tf.int64)[:, None]
  start = row * rows.length
  inputs = start + tf.cast(offset, tf.int64) + tf.range(length + 1, dtype=tf.int64)
  end = tf.minimum(start + rows.length, rows.num_tokens - 1)
  ids = _ids(tokens, tf.clip_by_value(inputs, 0, rows.num_tokens - 1))
  starts_text = (inputs if rows.unbroken else inputs - start)[:, 0] == 0
  afresh = None if starts is None else _is_start(starts, inputs[:, :-1])
  return Batch(tf.cast(ids, tf.int32), starts_text, tf.cast((inputs < end)[:, :-1], tf.float32), afresh)


def _ids(tokens: Integers, places: tf.Tensor) -> tf.Tensor:
  """The ids in places [B, n], each row of which is a run."""
  if isinstance(tokens, ShardReader):
    return tokens.tokens_tf(places)
  return tf.gather(tokens() if callable(tokens) else tokens, places)


def _is_start(starts: Integers, places: tf.Tensor) -> tf.Tensor:
  """Whether the tokens in places [B, n], each row of which is a run, are read from the initial state."""
  if isinstance(starts, ShardReader):
    return starts.starts_tf(places)
  starts, indices = starts() if callable(starts) else starts, tf.reshape(places, [-1])
  nearest = tf.minimum(tf.searchsorted(starts, indices), tf.size(starts) - 1)
  return tf.reshape(tf.gather(starts, nearest) == indices, [-1, places.shape[1]])


def mapped(file: TokenFile) -> Integers:
  """The ids of a split for streams: a file is mapped into memory, shards are read. Nothing is read before use."""
  if isinstance(file, ShardedTokens):
    return file.reader
  return _mapped(file.tokens, file.dtype, file.num_tokens)


def mapped_starts(file: TokenFile) -> Integers | None:
  """The starts of a split for streams; None where documents do not matter."""
  if isinstance(file, ShardedTokens):
    return file.reader if file.num_starts else None
  return _mapped(file.starts, 'int64', file.num_starts) if file.starts else None


def _mapped(file: OpenFile, dtype: str, size: int) -> Callable[[], tf.Tensor]:
  """The function refers to the file, which so stays open as long as a stream reads it."""
  def integers() -> tf.Tensor:
    return tf.raw_ops.ImmutableConst(dtype=tf.as_dtype(dtype), shape=[size], memory_region_name=file.path)

  return integers


def training_stream(tokens: Integers, rows: Rows, *, length: int, stride: int, offset: int = 0,
                    context: tf.distribute.InputContext | None = None,
                    starts: Integers | None = None) -> tf.data.Dataset:
  """An endless stream of chunks; at the end of a pass all rows start again.

  Args:
    tokens: the ids [N] of the split.
    rows: how it is cut.
    length: T.
    stride: S, tokens from the start of one chunk to the start of the next.
    offset: where the first chunk starts, in tokens from the start of the rows.
    context: which input pipeline this is, if several workers or replicas share the rows.
    starts: as in `chunk`.

  Returns:
    A dataset of Batch, one for each replica of this worker and each step.
  """
  def offsets(first: int) -> tf.data.Dataset:
    stop = first + stride * rows.steps(length=length, stride=stride, offset=first)
    return tf.data.Dataset.range(first, stop, stride)

  endless = offsets(offset).concatenate(offsets(0).repeat()) if offset else offsets(0).repeat()
  return _batches(endless, tokens, starts, rows, length, context)


def evaluation_stream(tokens: Integers, rows: Rows, *, length: int,
                      context: tf.distribute.InputContext | None = None,
                      starts: Integers | None = None) -> tf.data.Dataset:
  """A stream that counts every target once and then ends; arguments and result as in `training_stream`."""
  last = length * rows.steps(length=length, stride=length)
  return _batches(tf.data.Dataset.range(0, last, length), tokens, starts, rows, length, context)


def distribute(strategy: tf.distribute.Strategy, make: Callable[[tf.distribute.InputContext | None], tf.data.Dataset],
               workers: int = 1, worker: int = 0) -> Any:
  """A dataset whose elements the replicas of `strategy` read in step; each reads its share of the rows.

  Args:
    strategy: the replicas.
    make: context -> the stream of one input pipeline, such as `training_stream`; the context is None for one replica.
    workers: processes that the replicas are in.
    worker: which of them this is.
  """
  if strategy.num_replicas_in_sync == 1:
    return make(None)
  if strategy.num_replicas_in_sync == workers:  # TensorFlow's stream would ask all workers before each batch
    return make(tf.distribute.InputContext(workers, worker, workers))
  return strategy.distribute_datasets_from_function(make)


def _batches(offsets: tf.data.Dataset, tokens: Integers, starts: Integers | None, rows: Rows, length: int,
             context: tf.distribute.InputContext | None) -> tf.data.Dataset:
  """A dataset of Batch for the rows of one input pipeline: one element for each replica and step."""
  workers = context.num_input_pipelines if context else 1
  replicas = context.num_replicas_in_sync // workers if context else 1
  num_rows = rows.batch_size // workers
  first_row = context.input_pipeline_id * num_rows if context else 0

  @tf.autograph.experimental.do_not_convert  # it writes to a folder for temporary files, and there may be none
  def make(offset: tf.Tensor) -> Batch:
    return chunk(tokens, rows, offset, length, first_row, num_rows, starts)

  @tf.autograph.experimental.do_not_convert
  def split(batch: Batch) -> Batch:
    shape = [replicas, num_rows // replicas]
    return Batch(*(None if x is None else tf.reshape(x, [*shape, *x.shape[1:]]) for x in batch))

  batches = offsets.map(make)
  if replicas > 1:
    batches = batches.map(split).unbatch()
  return batches.prefetch(2 * replicas).with_options(_without_tuner())


def _without_tuner() -> tf.data.Options:
  """Options that switch off tf.data's tuner: there is nothing to tune, and it may delay the end of an iterator.

  An evaluation of 5 s took 5 s longer one time in four (TensorFlow 2.21: its thread misses the signal to stop while it
  sleeps, twice as long each time, up to a minute).
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  return options
