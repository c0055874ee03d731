"""Token ids -> rows -> overlapping chunks that carry state.

A split of N tokens has N - 1 targets. They are cut into B rows of equal length R; row b is contiguous text.
A chunk is a pure function of its offset in the rows, so that going on from any place needs a number only:

    T = 4, S = 4   x-x-x-x-x                 T = 4, S = 2   x-x-x-x-x
                           x-x-x-x-x                            x-x-x-x-x

Training reads the rows again and again, all of them in step. Evaluation reads them once, and starts each row
`lead` tokens early, on the text before it, with no weight on those targets, so that the state is warm:

    text   |--------------------------------------------|
    row 0  |==============|                                   = counted, . read to warm the state
    row 1          ......|==============|
    row 2                         ......|==============|

Where documents matter, some tokens are read from the initial state; what comes before them is forgotten.
"""
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from flags.data import DataConfig
from flags.errors import UserError

# Tokens of warm-up. State forgets: measured on Tiny Shakespeare, rows of 1,000 tokens that are warmed by 64 give the
# loss of one unbroken row to 2e-5 nats. What is left weighs more in short rows, which get up to 256.
LEAST_WARM_UP, MOST_WARM_UP = 64, 256


class Batch(NamedTuple):
  """A chunk of every row."""
  tokens: tf.Tensor  # [B, T+1] int32: inputs are tokens[:, :-1], targets tokens[:, 1:]
  reset: tf.Tensor  # [B] bool: the row starts new text with this chunk
  weight: tf.Tensor  # [B, T] float32: 0 where a target is padding or already counted
  starts: tf.Tensor | None = None  # [B, T] bool: the token is read from the initial state; None: none but by reset


class Cursor(NamedTuple):
  """A place in training: passes finished, and tokens into the rows."""
  epoch: int = 0
  offset: int = 0


@dataclasses.dataclass(frozen=True)
class Rows:
  """The cut of a split into rows."""
  num_tokens: int
  batch_size: int
  length: int  # R, targets in a row; the last rows may hold fewer
  lead: int = 0  # tokens read before each row

  def steps(self, *, length, stride, offset=0):
    """Chunks from `offset` to the end of the pass."""
    return max(1, -(-(self.length + self.lead - offset - length) // stride) + 1)

  def after(self, cursor, *, length, stride):
    """The cursor of the next chunk."""
    if cursor.offset + length >= self.length:
      return Cursor(cursor.epoch + 1, 0)
    return Cursor(cursor.epoch, cursor.offset + stride)

  def epochs(self, cursor):
    """Passes over the text, as a number with a fraction."""
    return cursor.epoch + cursor.offset / self.length


def check_fits(config: DataConfig, files):
  """Raises UserError where a split, one of {name: TokenFile}, is too short for the rows and chunks asked for."""
  have, longest = files['train'].num_tokens, max(config.lengths)
  if have - 1 < config.batch_size * longest:
    if have - 1 >= config.batch_size:
      fits = f'--chunk_length={(have - 1) // config.batch_size} (with no longer --chunk_curriculum)'
    else:
      fits = 'more text'
    if have - 1 >= longest:
      fits = f'--batch_size={(have - 1) // longest} or {fits}'
    raise UserError(f'--corpus={config.corpus}: its training split has {have} tokens; --batch_size={config.batch_size} '
                    f'chunks of {longest} tokens need {config.batch_size * longest + 1}. What would fit: {fits}')
  if config.document_reset and files['train'].num_starts < 2:
    raise UserError(f'--document_reset: --corpus={config.corpus} has no second document to start at; expected several '
                    'files, a data set, or a --document_separator that is in the text')
  for split, share in (('valid', config.valid_fraction), ('test', config.test_fraction)):
    found = files[split].num_tokens if split in files else 0
    if found < 2 and (share or split in files):
      raise UserError(f'--{split}_fraction={share}: expected at least 2 tokens in the {split} split of '
                      f'--corpus={config.corpus}, found {found} (and {have} to train on). Ask for a larger share, or 0')


def training_rows(num_tokens, batch_size):
  return Rows(num_tokens, batch_size, length=-(-(num_tokens - 1) // batch_size))


def evaluation_rows(num_tokens, batch_size, length, warm_up=None):
  """Rows and lead are multiples of the chunk length, so that text begins where a chunk begins."""
  chunks = -(-(num_tokens - 1) // (batch_size * length))
  if warm_up is None:
    warm_up = max(LEAST_WARM_UP, min(MOST_WARM_UP, 2**16 * batch_size // num_tokens))
  lead = -(-warm_up // length) * length if batch_size > 1 else 0
  return Rows(num_tokens, batch_size, length=chunks * length, lead=lead)


def evaluation_batch_size(num_tokens, most=128):
  """Rows that are just full, of a length for which warming costs at most a sixteenth more."""
  return max(1, min(most, -(-(num_tokens - 1) // (16 * LEAST_WARM_UP))))


def chunk(tokens, rows, offset, length, first_row=0, num_rows=None, starts=None):
  """The chunk at `offset` of the rows from `first_row` on, as a Batch.

  Args:
    tokens: [N] integers, or a function that returns them (so that a graph can map a file into memory).
    rows: the cut.
    offset: tokens from the start of the rows, scalar.
    length: T.
    first_row: with num_rows, the rows that this worker reads; all by default.
    starts: [n] int64, rising, or a function that returns them: places of tokens that are read from the initial state.
  """
  row = tf.range(first_row, first_row + (num_rows or rows.batch_size), dtype=tf.int64)[:, None]
  start = row * rows.length
  inputs = start - rows.lead + tf.cast(offset, tf.int64) + tf.range(length + 1, dtype=tf.int64)
  end = tf.minimum(start + rows.length, rows.num_tokens - 1)
  tokens, starts = (source() if callable(source) else source for source in (tokens, starts))
  ids = tf.gather(tokens, tf.clip_by_value(inputs, 0, rows.num_tokens - 1))
  counted = (inputs >= start) & (inputs < end)
  starts_text = (offset == 0) | (inputs[:, 0] == 0)
  if starts is not None:
    places = tf.reshape(inputs[:, :-1], [-1])
    nearest = tf.minimum(tf.searchsorted(starts, places), tf.size(starts) - 1)
    starts = tf.reshape(tf.gather(starts, nearest) == places, [-1, length])
  return Batch(tf.cast(ids, tf.int32), starts_text, tf.cast(counted[:, :-1], tf.float32), starts)


def mapped(path, dtype, num_tokens):
  """A function that returns a file of raw integers as a tensor: mapped into memory, not read."""
  def tokens():
    return tf.raw_ops.ImmutableConst(dtype=tf.as_dtype(dtype), shape=[num_tokens], memory_region_name=str(path))

  return tokens


def mapped_starts(file):
  """A function that returns the starts of a TokenFile as a tensor, or None where documents do not matter."""
  return mapped(file.starts_path, 'int64', file.num_starts) if file.num_starts else None


def _batches(offsets, tokens, starts, rows, length, context):
  """A dataset of Batch for the rows of one input pipeline, one element per replica and step."""
  workers = context.num_input_pipelines if context else 1
  replicas = context.num_replicas_in_sync // workers if context else 1
  num_rows = rows.batch_size // workers
  first_row = context.input_pipeline_id * num_rows if context else 0

  def make(offset):
    return chunk(tokens, rows, offset, length, first_row, num_rows, starts)

  def split(batch):
    shape = [replicas, num_rows // replicas]
    return Batch(*(None if x is None else tf.reshape(x, [*shape, *x.shape[1:]]) for x in batch))

  batches = offsets.map(make)
  if replicas > 1:
    batches = batches.map(split).unbatch()
  return batches.prefetch(2 * replicas).with_options(_untuned())


def _untuned():
  """Nothing here is to be tuned, and tf.data's tuner may hold up the end of an iterator: by 5 s at the end of an
  evaluation that took 5 s, one time in four (TensorFlow 2.21; its thread misses the word to stop while it sleeps,
  twice as long each time, up to a minute).
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  return options


def training_stream(tokens, rows, *, length, stride, offset=0, context=None, starts=None):
  """Chunks for ever, from `offset` on; at the end of a pass all rows start again.

  `tokens` and `starts` as in `chunk`. `context` is the tf.distribute.InputContext where rows are split over workers
  and replicas.
  """
  def offsets(first):
    return tf.data.Dataset.range(first, first + stride * rows.steps(length=length, stride=stride, offset=first),
                                 stride)

  endless = offsets(offset).concatenate(offsets(0).repeat()) if offset else offsets(0).repeat()
  return _batches(endless, tokens, starts, rows, length, context)


def evaluation_stream(tokens, rows, *, length, context=None, starts=None):
  """Every target once; arguments as in `training_stream`."""
  last = length * rows.steps(length=length, stride=length)
  return _batches(tf.data.Dataset.range(0, last, length), tokens, starts, rows, length, context)


def distribute(strategy, make):
  """make(context) -> dataset: iterated in step by the replicas of `strategy`, which share its rows."""
  if strategy.num_replicas_in_sync == 1:
    return make(None)
  return strategy.distribute_datasets_from_function(make)
