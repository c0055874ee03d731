"""The tasks of charlm, served to run.py; see alternation.py. They go through what the commands go through."""
import itertools
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from benchmarks import alternation
from charlm.evaluation import scoring
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session
from charlm.generation.terminal import SHOW_EVERY
from charlm.network import model
from charlm.network.backend import choice
from charlm.training import learner
from charlm.training.distribution import Distribution, make_strategy
from data_pipeline import prepare, streams
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.rows import training_rows
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.training import TrainConfig

TEXT_TOKENS = 1_003_854  # nine tenths of Tiny Shakespeare
FOLDER = tempfile.TemporaryDirectory()
NAMES = (f'{FOLDER.name}/{i}' for i in itertools.count())


def token_file(num_tokens, vocab_size):
  """Random tokens, as bytes: the work does not depend on them."""
  path = next(NAMES)
  np.random.default_rng(0).integers(0, vocab_size, num_tokens, np.uint8).tofile(path)
  data = DataConfig(corpus=path, valid_fraction=0.0, cache_dir=next(NAMES))
  return prepare.prepare(data, progress=False)[1]['train']


def make_model(vocab_size, options):
  config = ModelConfig(**options)
  return model.LanguageModel(config, vocab_size, backend=choice.choose('auto', config))


def make_learner(vocab_size, batch_size, chunk_length, options):
  data = DataConfig(batch_size=batch_size, chunk_length=chunk_length)
  return learner.Learner(make_model(vocab_size, options), TrainConfig(), data, Distribution(make_strategy('default')))


def chunks(vocab_size, batch_size, chunk_length):
  file = token_file(TEXT_TOKENS, vocab_size)
  rows = training_rows(file.num_tokens, batch_size)
  return iter(streams.training_stream(streams.mapped(file), rows, length=chunk_length, stride=chunk_length))


def train(*, vocab_size, batch_size, chunk_length, steps, **options):
  """Input pipeline, forward, gradient, clipping, Adam; the state is carried from chunk to chunk."""
  one = make_learner(vocab_size, batch_size, chunk_length, options)
  batches, carry = chunks(vocab_size, batch_size, chunk_length), one.initial_carry()

  def run():
    nonlocal carry
    for _ in range(steps):
      metrics, carry = one.step(next(batches), carry, learner.StepDecisions(0.5))
    assert np.isfinite(float(metrics['nats']))

  return run, steps * batch_size * chunk_length


def first_step(*, vocab_size, batch_size, chunk_length, **options):
  """Tracing, compiling and running a step of a new learner, in steps."""
  batch = next(chunks(vocab_size, batch_size, chunk_length))

  def run():
    one = make_learner(vocab_size, batch_size, chunk_length, options)
    float(one.step(batch, one.initial_carry(), learner.StepDecisions(0.5))[0]['nats'])

  return run, 1


def pipeline(*, vocab_size, batch_size, chunk_length, steps):
  batches = chunks(vocab_size, batch_size, chunk_length)
  return lambda: [next(batches) for _ in range(steps)], steps * batch_size * chunk_length


def evaluate(*, vocab_size, tokens, **options):
  """A whole split, read from its file."""
  scorer = scoring.PlainScorer(make_model(vocab_size, options))
  file = token_file(tokens, vocab_size)
  return lambda: scoring.score_file(scorer, file), tokens


def sample(*, vocab_size, rows, length, **options):
  """Writes `length` tokens in each of `rows` texts, in calls of as many tokens as charlm-sample takes."""
  session = Session(make_model(vocab_size, options), row_seeds(0, rows), temperature=0.8, top_k=0, top_p=1.0)
  state = session.read([np.zeros(1, np.int32)])

  def run():
    nonlocal state
    for _ in range(length // SHOW_EVERY):
      state = session.write(SHOW_EVERY, state).state

  return run, rows * (length // SHOW_EVERY) * SHOW_EVERY


def tokenize(*, tokenizer, spec):
  """A corpus of one file to files of tokens, nothing kept from before, in bytes."""
  path = pathlib.Path(next(NAMES))
  with path.open('wb') as file:
    file.writelines(open_corpus(spec, valid_fraction=0.0)['train'].blocks())

  def run():
    prepare.prepare(DataConfig(corpus=str(path), tokenizer=tokenizer, cache_dir=next(NAMES)), progress=False)

  return run, path.stat().st_size


def product(size):
  """One large matrix product, in floating point operations."""
  a, b = tf.random.normal((size, size)), tf.random.normal((size, size))
  return lambda: tf.matmul(a, b).numpy(), 2 * size**3


if __name__ == '__main__':
  choice.share_cores(choice.choose('auto', ModelConfig()))
  alternation.serve({'train': train, 'first_step': first_step, 'pipeline': pipeline, 'evaluate': evaluate,
                     'sample': sample, 'tokenize': tokenize, 'product': product})
