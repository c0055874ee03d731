"""How likely a text is: every target counted once, whatever the number of rows and the chunk length."""
import math
import sys

import tqdm

from data_pipeline import streams
from data_pipeline.rows import evaluation_batch_size, evaluation_rows, training_rows
from flags.evaluation import EvaluateConfig

EVALUATION_LENGTH = EvaluateConfig.chunk_length


def evaluate_file(learner, file, *, batch_size=0, length=EVALUATION_LENGTH, bar=None):
  """Evaluates a split.

  Args:
    learner: a Learner, or what stands in for one, with the weights to judge.
    file: a TokenFile of at least 2 tokens.
    batch_size: rows, of a chunk each at least; 0 chooses.
    length: tokens in a chunk, at most.
    bar: (iterable, total) -> iterable, to show progress; None shows none.

  Returns:
    {'nats': sum, 'tokens': count}.
  """
  length = min(length, file.num_tokens - 1)
  rows = rows_of(file, batch_size, length, learner.replicas)
  batches = streams.distribute(learner.strategy, lambda context: stream(file, rows, length, context))
  if bar:
    batches = bar(batches, rows.steps(length=length, stride=length))
  return learner.evaluate(batches, rows.batch_size)


def rows_of(file, batch_size, length, replicas=1):
  """The cut of a TokenFile into rows, of a chunk each at least; batch_size: how many, or 0."""
  batch_size = batch_size or evaluation_batch_size(file.num_tokens)
  batch_size = min(batch_size, -(-(file.num_tokens - 1) // length))
  return evaluation_rows(file.num_tokens, -(-batch_size // replicas) * replicas, length)


def stream(file, rows, length, context=None):
  """Batches of a TokenFile, every target counted once."""
  return streams.evaluation_stream(streams.mapped(file.path, file.dtype, file.num_tokens), rows, length=length,
                                   context=context, starts=streams.mapped_starts(file))


def training_batches(file, batch_size, length, steps):
  """-> the first chunks of each row of a training split, and their number: `steps`, or a pass if that is less."""
  rows = training_rows(file.num_tokens, batch_size)
  batches = streams.training_stream(streams.mapped(file.path, file.dtype, file.num_tokens), rows, length=length,
                                    stride=length, starts=streams.mapped_starts(file))
  steps = min(steps, rows.steps(length=length, stride=length))
  return batches.take(steps), steps


def report(sums, file):
  """{'nats', 'tokens'} of a whole TokenFile -> the figures that people compare.

  Bits are per byte and character of the text that was predicted, which is all but its first token. Characters that the
  tokenizer does not know are one token, `unknown` of them: where there are many, the figures say little.
  """
  nats, tokens = sums['nats'], sums['tokens']
  num_bytes = file.num_bytes - file.first_token_bytes
  characters = file.num_characters - file.first_token_characters
  bits = nats / math.log(2)
  return {'nats_per_token': nats / tokens, 'bits_per_byte': bits / num_bytes,
          'bits_per_character': bits / characters if characters else None,
          'tokens': tokens, 'unknown': file.num_unknown, 'characters': characters, 'bytes': num_bytes}


def progress_bar(batches, total):
  """Shows chunks done, rate and time left on standard error where that is a terminal."""
  return tqdm.tqdm(batches, total=total, unit=' chunks', leave=False, disable=not sys.stderr.isatty())
