"""Scoring: how likely a text is. Every target counts once, whatever the number of rows and the chunk length.

Rows are read side by side, and yet the figure is that of one row, the whole text. At first all rows but the first begin
in the initial state. Then each is read again from the state in which the row before it ended, until the states and the
losses are those of the reading before:

    first    |=====row 0=====|=====row 1=====|=====row 2=====|
    again    |==             |==             |==                 the rest stays as it was read

Where a model remembers for longer than a row, the rows end otherwise than before, and are read once more. After as many
passes as there are rows, each has begun in the very state of one row.
"""
import functools
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tqdm

from charlm.network import losses
from charlm.network.model import LanguageModel
from data_pipeline import streams
from data_pipeline.rows import Rows, evaluation_batch_size, evaluation_rows
from data_pipeline.token_files import TokenFile
from flags.evaluation import EvaluateConfig

CHUNK_LENGTH = EvaluateConfig.chunk_length

class Progress(Protocol):
  """Shows how many items are done."""

  def __call__(self, items: Iterable, total: int) -> Iterable:
    """The same items. total: how many there are."""


Show = Callable[[Iterable], Iterable]  # a Progress that knows how many items there are
Sums = tuple[tf.Tensor, tf.Tensor]  # nats, a scalar or [K] for K losses; how many targets
States = list[np.ndarray]  # [B, H] of each part of a state, of all replicas together

# Two readings agree where their states differ by at most this share (root mean square, of each part), and where another
# row's length of losses that differ as much as the last ones would change the figure by at most so many nats per token.
STATE_TOLERANCE, NATS_TOLERANCE = 0.02, 5e-5
SHORT_ROW = 2048  # tokens; in shorter rows, states may differ by less, as each counts for more of the figure


class Scorer(Protocol):
  """A way to score text. `replicas` is the number of devices that share the rows."""
  replicas: int

  def batches(self, make: Callable[[Any], tf.data.Dataset]) -> Iterable[Any]:
    """The batches that `score` takes. make: a tf.distribute.InputContext, or None -> the data set of a device."""

  def initial_states(self, rows: int) -> States:
    """The states of rows where text begins. rows: B, of all replicas together."""

  def begin(self, states: States) -> Any:
    """What `score` takes with the first batch, for rows that begin in these states."""

  def states(self, carry: Any) -> States:
    """The states in what `score` returned. The opposite of `begin`."""

  def score(self, batch: Any, carry: Any) -> tuple[list[Sums], Any]:
    """Scores a batch.

    Args:
      batch: from `batches`.
      carry: from `begin`, or from the batch before.

    Returns:
      The sums over the batch, one pair for each replica; and the carry for the next batch.
    """


class OneDevice:
  """What scorers on one device have in common."""
  replicas = 1
  model: LanguageModel

  def batches(self, make: Callable[[Any], tf.data.Dataset]) -> Iterable[Any]:
    """As `Scorer.batches`."""
    return make(None)

  def initial_states(self, rows: int) -> States:
    """As `Scorer.initial_states`."""
    return [np.repeat(s.numpy(), rows, 0) for s in tf.nest.flatten(self.model.initial_state(1))]

  def begin(self, states: States) -> Any:
    """As `Scorer.begin`."""
    return tf.nest.pack_sequence_as(self.model.initial_state(1), [tf.constant(s) for s in states])

  def states(self, carry: Any) -> States:
    """As `Scorer.states`."""
    return [s.numpy() for s in tf.nest.flatten(carry)]


class PlainScorer(OneDevice):
  """Scores each token by the model as it is."""

  def __init__(self, model: LanguageModel):
    """model: stays as it is."""
    self.model = model.with_backend(model.backend.forward_only())
    self.compiled = tf.function(self._score, jit_compile=True, autograph=False)

  def score(self, batch: streams.Batch, carry: Any) -> tuple[list[Sums], Any]:
    """As `Scorer.score`."""
    sums, carry = self.compiled(batch, carry, 0)
    return [sums], carry

  def _score(self, batch: streams.Batch, carry: Any, replica: Any) -> tuple[Sums, Any]:
    del replica  # there so that each replica compiles a function of its own, with its own variables
    state = self.model.reset(carry, batch.reset)
    outputs, carry = self.model(batch.tokens[:, :-1], state, resets=batch.starts)
    nats = tf.reduce_sum(losses.nats(outputs.logits, batch.tokens[:, 1:]) * batch.weight)
    return (nats, tf.reduce_sum(batch.weight)), carry


def accumulate(scorer: Scorer, batches: Iterable[Any], rows: Rows, show: Show = iter) -> tuple[Any, int]:
  """Scores batches, one after the other, and adds up.

  Args:
    scorer: scores a batch; the same batch and carry give the same sums.
    batches: from `Scorer.batches`; they can be read again.
    rows: how they are cut.
    show: shows how many batches of the first reading are done.

  Returns:
    nats, summed in float64, a number or [K]; and how many targets counted.
  """
  return add_up(settle(scorer, batches, rows, show)[0])


def add_up(chunks: Iterable[list[Sums]]) -> tuple[Any, int]:
  """The sums of each chunk -> nats and count of all, as of `accumulate`."""
  nats, counts = (np.sum(np.array(s, np.float64), 0)
                  for s in zip(*(pair for chunk in chunks for pair in chunk), strict=True))
  return nats, int(counts)


def settle(scorer: Scorer, batches: Iterable[Any], rows: Rows, show: Show = iter) -> tuple[list[list[Sums]], States]:
  """Reads the rows until each begins in the state in which the row before it ends. Args as of `accumulate`.

  Returns:
    The sums of each chunk, as `Scorer.score` gives them; and the states in which the rows begin.
  """
  begins = scorer.initial_states(rows.batch_size)
  chunks: list[list[Sums]] = []
  kept: dict[int, States] = {}  # the states after some of the chunks, as last read
  for reading in range(rows.filled):
    carry, changed, since, rate = scorer.begin(begins), 0.0, 0, 0.0
    for k, batch in enumerate(batches if reading else show(batches), 1):
      sums, carry = scorer.score(batch, carry)
      changed += abs(_nats(sums) - _nats(chunks[k - 1])) if reading else 0.0
      chunks[k - 1:k] = [sums]
      if k in kept or (not reading and _is_mark(k)):
        before, kept[k] = kept.get(k), scorer.states(carry)
        # Of nats for each chunk. It falls to a quarter in 64 tokens at most: a few losses may be the same by chance.
        rate = max(changed / (k - since), rate * 4**(-(k - since) * rows.length / max(1, len(chunks)) / 64))
        if before and _agree(before, kept[k], rows) and not rate * len(chunks) > NATS_TOLERANCE * rows.num_tokens:
          return chunks, begins
        changed, since = 0.0, k
    kept[len(chunks)] = ends = scorer.states(carry)
    begins = [np.concatenate([first[:1], end[:-1]]) for first, end in zip(begins, ends, strict=True)]
  return chunks, begins


def _is_mark(k: int) -> bool:
  """Whether states are kept after k chunks: each of the first 8, then every second, from 16 on every fourth ..."""
  return k % (1 << max(0, k.bit_length() - 3)) == 0


def _nats(sums: list[Sums]) -> float:
  return sum(float(np.sum(nats)) for nats, _ in sums)


def _agree(one: States, other: States, rows: Rows) -> bool:
  """Whether two readings of the rows have come to the same states; true where they are not finite."""
  tolerance, filled = STATE_TOLERANCE * min(1.0, rows.length / SHORT_ROW), rows.filled
  return not any(np.square(a[:filled] - b[:filled]).mean() > tolerance**2 * np.square(b[:filled]).mean()
                 for a, b in zip(one, other, strict=True))


def score_file(scorer: Scorer, file: TokenFile, *, batch_size: int = 0, length: int = CHUNK_LENGTH,
               progress: Progress | None = None) -> tuple[Any, int]:
  """Scores a split.

  Args:
    scorer: with the model that is evaluated.
    file: at least 2 tokens.
    batch_size: rows, at most as many as there are chunks; 0 chooses.
    length: tokens in a chunk, at most.
    progress: shows how many batches are done.

  Returns:
    As `accumulate`.
  """
  length = min(length, file.num_tokens - 1)
  rows = rows_of(file, batch_size, length, scorer.replicas)
  return accumulate(scorer, scorer.batches(lambda context: stream(file, rows, length, context)), rows,
                    shown(progress, rows, length))


def shown(progress: Progress | None, rows: Rows, length: int) -> Show:
  """What `accumulate` shows. Args as of `score_file`; rows: from `rows_of`."""
  return functools.partial(progress, total=rows.steps(length=length, stride=length)) if progress else iter


def rows_of(file: TokenFile, batch_size: int, length: int, replicas: int = 1) -> Rows:
  """Divides a split into rows.

  Args:
    file: the split.
    batch_size: how many rows; 0 chooses. There are no more rows than chunks.
    length: tokens in a chunk.
    replicas: the number of rows becomes a multiple of this.
  """
  batch_size = batch_size or evaluation_batch_size(file.num_tokens)
  batch_size = min(batch_size, -(-(file.num_tokens - 1) // length))
  batch_size = evaluation_rows(file.num_tokens, batch_size, length).filled
  return evaluation_rows(file.num_tokens, -(-batch_size // replicas) * replicas, length)


def stream(file: TokenFile, rows: Rows, length: int, context: Any = None) -> tf.data.Dataset:
  """The batches of a split. Args as in `score_file`; rows: from `rows_of`; context: of a replica's input, or None."""
  return streams.evaluation_stream(streams.mapped(file), rows, length=length,
                                   context=context, starts=streams.mapped_starts(file))


def report(nats: float, tokens: int, file: TokenFile) -> dict[str, Any]:
  """The figures that people compare.

  Bits are per byte and per character of the text that was predicted, which is all but its first token. All characters
  that the tokenizer does not know are one token; `unknown` says how many there were. If there are many, the figures say
  little.

  Args:
    nats: summed over the split.
    tokens: how many targets counted.
    file: the split.

  Returns:
    {name: figure}.
  """
  num_bytes = file.num_bytes - file.first_token_bytes
  characters = file.num_characters - file.first_token_characters
  bits = float(nats) / math.log(2)
  return {'nats_per_token': float(nats) / tokens, 'bits_per_byte': bits / num_bytes,
          'bits_per_character': bits / characters if characters else None,
          'tokens': tokens, 'unknown': file.num_unknown, 'characters': characters, 'bytes': num_bytes}


def progress_bar(items: Iterable, total: int) -> Iterable:
  """A `Progress` that shows chunks done, rate and time left on standard error, if that is a terminal."""
  return tqdm.tqdm(items, total=total, unit=' chunks', leave=False, disable=not sys.stderr.isatty())
