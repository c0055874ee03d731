"""Preparing a large corpus, and training from it (Linux).

    python -m benchmarks.prepare [--megabytes=1000] [--gigabytes=10] [--steps=50]

writes a text (the language reference and the library sources of Python, in lines of random order, again and again),
prepares it in one process, and prints a JSON object for each of these:

- prepared: megabytes of text in a second of processor time, for each tokenizer;
- chunk: microseconds of processor time for a chunk of 16 rows of 100 tokens, from a token file that is mapped into
  memory, from shards of --gigabytes in all (those of the text, named again and again), and from a TFRecord file
  of as many tokens in a record;
- training: processor seconds of a step from the small token file and from the shards, in turn, and megabytes that
  the process has for itself (RssAnon) after its imports and at the end.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import random
import re
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import tensorflow as tf

from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.training.chunks import TrainingChunks
from charlm.training.distribution import Distribution, make_strategy
from charlm.training.learner import Learner, StepDecisions
from data_pipeline import prepare, streams
from data_pipeline.beam import make, pipeline
from data_pipeline.corpus.spec import open_corpus
from data_pipeline.manifest import read_manifest
from data_pipeline.rows import training_rows
from data_pipeline.shards import RECORD_TOKENS
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.prepare import PrepareConfig
from flags.training import TrainConfig

DATA = DataConfig(batch_size=16, chunk_length=100)
MODEL = ModelConfig(units=192, layers=2, input_units=192)
CHUNKS = 2000


def write_text(path, megabytes):
  """A text of so many megabytes, whose lines are in another order each time."""
  lines = [line for spec in ('pydoc', 'stdlib') for block in open_corpus(spec, valid_fraction=0.0)['train'].blocks()
           for line in block.splitlines(keepends=True)]
  shuffled = random.Random(0)
  with open(path, 'wb') as file:
    while file.tell() < megabytes * 1e6:
      shuffled.shuffle(lines)
      file.writelines(lines)


def prepared(path, folder, tokenizer):
  """Prepares a text -> the training split, megabytes in a second of processor time."""
  began = time.process_time()
  config = PrepareConfig(corpus=str(path), tokens_dir=str(folder), workers=1, tokenizer=tokenizer)
  make.make(config, pipeline.Runner(config))
  return path.stat().st_size / 1e6 / (time.process_time() - began)


def repeated(split, gigabytes):
  """A split of so many gigabytes of tokens: its shards, again and again."""
  times = max(1, round(gigabytes * 1e9 / split.num_tokens))
  return dataclasses.replace(split, shards=split.shards * times, num_tokens=split.num_tokens * times)


def records(split, path):
  """Writes the first tokens of a split as TFRecords -> a dataset of chunks, for each row from the start of the file."""
  with tf.io.TFRecordWriter(str(path)) as writer:
    for begin in range(0, min(split.num_tokens, 50 * RECORD_TOKENS) - RECORD_TOKENS, RECORD_TOKENS):
      writer.write(split.reader.tokens(np.arange(begin, begin + RECORD_TOKENS)[None])[0].tobytes())
  length, of_record = DATA.chunk_length + 1, RECORD_TOKENS // (DATA.chunk_length + 1)
  row = tf.data.TFRecordDataset(str(path)).map(
    lambda record: tf.reshape(tf.io.decode_raw(record, tf.uint8)[:of_record * length], [of_record, length]))
  row = row.unbatch().repeat()
  return tf.data.Dataset.zip((row,) * DATA.batch_size).map(lambda *rows: tf.stack(rows)).prefetch(2)


def stream(file):
  return streams.training_stream(streams.mapped(file), training_rows(file.num_tokens, DATA.batch_size),
                                 length=DATA.chunk_length, stride=DATA.chunk_length)


def seconds(do, count):
  """Processor seconds of a call, the best of three times `count` calls."""
  best = float('inf')
  for _ in range(3):
    began = time.process_time()
    for _ in range(count):
      do()
    best = min(best, (time.process_time() - began) / count)
  return best


def anonymous():
  """Megabytes that this process has for itself."""
  return int(re.search(r'RssAnon:\s+(\d+)', pathlib.Path('/proc/self/status').read_text())[1]) * 1024 / 1e6


def stepper(file):
  """A function that trains a step from a split."""
  distribution = Distribution(make_strategy('default'))
  model = LanguageModel(MODEL, 256, seed=0, backend=choice.choose('auto', MODEL))
  learner = Learner(model, TrainConfig(), DATA, distribution)
  chunks, held = TrainingChunks(DATA, file, distribution), {'carry': learner.initial_carry()}

  def step():
    (batch,), _, _ = chunks.next(0.0)
    metrics, held['carry'] = learner.step(batch, held['carry'], StepDecisions())
    metrics['nats'].numpy()

  return step


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--megabytes', type=int, default=1000)
  parser.add_argument('--gigabytes', type=float, default=10)
  parser.add_argument('--steps', type=int, default=50)
  args = parser.parse_args()
  imported = anonymous()
  with tempfile.TemporaryDirectory() as name:
    folder, text = pathlib.Path(name), pathlib.Path(name, 'text')
    write_text(text, args.megabytes)
    print(json.dumps({'prepared': {kind: prepared(text, folder / kind, kind) for kind in ('byte', 'char')}}),
          flush=True)
    large = repeated(read_manifest(str(folder / 'byte')).splits['train'], args.gigabytes)
    small = prepare.prepare(DataConfig(corpus='pydoc', cache_dir=str(folder / 'cache')), progress=False)[1]['train']
    sources = {'mapped': stream(small), 'shards': stream(large), 'TFRecord': records(large, folder / 'records')}
    streams_ = {kind: iter(source) for kind, source in sources.items()}
    print(json.dumps({'chunk': {kind: seconds(lambda chunks=chunks: next(chunks), CHUNKS) * 1e6
                                for kind, chunks in streams_.items()}}), flush=True)
    steps, times = {'small': stepper(small), 'large': stepper(large)}, {'small': [], 'large': []}
    for step in steps.values():
      step()  # compiles
    for _ in range(5):
      for kind, step in steps.items():
        times[kind].append(seconds(step, max(1, args.steps // 15)))
    print(json.dumps({'training': {**{kind: min(found) for kind, found in times.items()}, 'tokens': large.num_tokens,
                                   'imported': imported, 'anonymous': anonymous()}}), flush=True)


if __name__ == '__main__':
  main()
