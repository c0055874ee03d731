"""Scoring: how likely a text is. Every target counts once, whatever the number of rows and the chunk length."""
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

Progress = Callable[[Iterable, int], Iterable]  # (iterable, its length) -> the same items, showing how many are done
Sums = tuple[tf.Tensor, tf.Tensor]  # nats, a scalar or [K] for K losses; how many targets


class Scorer(Protocol):
  """A way to score text. `replicas` is the number of devices that share the rows."""
  replicas: int

  def batches(self, make: Callable[[Any], tf.data.Dataset]) -> Iterable[Any]:
    """The batches that `score` takes. make: a tf.distribute.InputContext, or None -> the data set of a device."""

  def initial_carry(self, rows: int) -> Any:
    """What `score` takes with the first batch. rows: B, of all replicas together."""

  def score(self, batch: Any, carry: Any) -> tuple[list[Sums], Any]:
    """Scores a batch.

    Args:
      batch: from `batches`.
      carry: from `initial_carry`, or from the batch before.

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

  def initial_carry(self, rows: int) -> Any:
    """As `Scorer.initial_carry`: the state where text begins."""
    return self.model.initial_state(rows)


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


def accumulate(scorer: Scorer, batches: Iterable[Any], rows: int) -> tuple[Any, int]:
  """Scores batches, one after the other, and adds up.

  Args:
    scorer: scores a batch.
    batches: from `Scorer.batches`.
    rows: B, of all replicas together.

  Returns:
    nats, summed in float64, a number or [K]; and how many targets counted.
  """
  carry, sums = scorer.initial_carry(rows), []
  for batch in batches:
    part, carry = scorer.score(batch, carry)
    sums += part
  nats, counts = (np.sum(np.array(s, np.float64), 0) for s in zip(*sums, strict=True))
  return nats, int(counts)


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
  batches = scorer.batches(lambda context: stream(file, rows, length, context))
  if progress:
    batches = progress(batches, rows.steps(length=length, stride=length))
  return accumulate(scorer, batches, rows.batch_size)


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


def progress_bar(batches: Iterable, total: int) -> Iterable:
  """A `Progress` that shows chunks done, rate and time left on standard error, if that is a terminal."""
  return tqdm.tqdm(batches, total=total, unit=' chunks', leave=False, disable=not sys.stderr.isatty())
