"""How likely a text is: every target counted once, whatever the number of rows and the chunk length."""
import math
import sys

import tqdm

from charlm.config import EvaluateConfig
from data_pipeline import streams

EVALUATION_LENGTH = EvaluateConfig.chunk_length


def evaluate_file(learner, file, *, batch_size=0, length=EVALUATION_LENGTH, bar=None):
  """Evaluates a split.

  Args:
    learner: a Learner, or what stands in for one, with the weights to judge.
    file: a TokenFile of at least 2 tokens.
    batch_size: rows, of a chunk each at least; 0 chooses.
    length: tokens in a chunk.
    bar: (iterable, total) -> iterable, to show progress; None shows none.

  Returns:
    {'nats': sum, 'tokens': count}.
  """
  batch_size = batch_size or streams.evaluation_batch_size(file.num_tokens)
  batch_size = min(batch_size, -(-(file.num_tokens - 1) // length))
  batch_size = -(-batch_size // learner.replicas) * learner.replicas
  rows = streams.evaluation_rows(file.num_tokens, batch_size, length)
  tokens = streams.mapped(file.path, file.dtype, file.num_tokens)

  def make(context):
    return streams.evaluation_stream(tokens, rows, length=length, context=context, starts=streams.mapped_starts(file))

  batches = streams.distribute(learner.strategy, make)
  if bar:
    batches = bar(batches, rows.steps(length=length, stride=length))
  return learner.evaluate(batches, batch_size)


def training_batches(file, batch_size, length, steps):
  """-> the first chunks of each row of a training split, and their number: `steps`, or a pass if that is less."""
  rows = streams.training_rows(file.num_tokens, batch_size)
  batches = streams.training_stream(streams.mapped(file.path, file.dtype, file.num_tokens), rows, length=length,
                                    stride=length, starts=streams.mapped_starts(file))
  steps = min(steps, rows.steps(length=length, stride=length))
  return batches.take(steps), steps


def report(sums, file):
  """{'nats', 'tokens'} of a whole TokenFile -> the figures that people compare.

  Bits are per byte and character of the text that was predicted, which is all but its first token.
  """
  nats, tokens = sums['nats'], sums['tokens']
  num_bytes = file.num_bytes - file.first_token_bytes
  characters = file.num_characters - file.first_token_characters
  bits = nats / math.log(2)
  return {'nats_per_token': nats / tokens, 'bits_per_byte': bits / num_bytes,
          'bits_per_character': bits / characters if characters else None,
          'tokens': tokens, 'characters': characters, 'bytes': num_bytes}


def progress_bar(batches, total):
  """Shows chunks done, rate and time left on standard error where that is a terminal."""
  return tqdm.tqdm(batches, total=total, unit=' chunks', leave=False, disable=not sys.stderr.isatty())
