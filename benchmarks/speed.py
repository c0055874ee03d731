"""How fast charlm trains, evaluates and writes on this machine.

    python -m benchmarks.speed [--units=512 --layers=2 --batch_size=64 --chunk_length=200]

prints one JSON object: tokens per second of the full training step (forward, gradient, clipping, Adam), of evaluating a
split of VALID_TOKENS, and of writing one text after its first token, best and median; training and evaluation take
turns. Also seconds to trace and compile the step, and GFLOP/s of one large matrix product, to tell machines apart.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


VALID_TOKENS = 111_540  # as the last tenth of Tiny Shakespeare has


def arguments():
  parser = argparse.ArgumentParser()
  for name, value in dict(units=512, layers=2, batch_size=64, chunk_length=200, vocab_size=96, embedding_size=128,
                          repeats=7).items():
    parser.add_argument(f'--{name}', type=int, default=value)
  parser.add_argument('--only', choices=['sample'])
  return parser.parse_args()


def make_model(args):
  from charlm import config, model
  chosen = config.ModelConfig(units=args.units, layers=args.layers, embedding_size=args.embedding_size)
  return model.LanguageModel(chosen, args.vocab_size)


def rates(tokens, seconds):
  return {'best': round(tokens / min(seconds)), 'median': round(tokens / statistics.median(seconds))}


def timed(function):
  began = time.perf_counter()
  function()
  return time.perf_counter() - began


def train_and_evaluate(args):
  import numpy as np
  import tensorflow as tf

  from charlm import config, learner
  from charlm.evaluation import EVALUATION_LENGTH
  from data_pipeline import streams
  one = learner.Learner(make_model(args), config.TrainConfig(), strategy=learner.make_strategy('default'),
                        batch_size=args.batch_size, longest=args.chunk_length)
  shape = [args.batch_size, args.chunk_length]
  tokens = np.random.default_rng(0).integers(0, args.vocab_size, [shape[0], shape[1] + 1], np.int32)
  batch = streams.Batch(tf.constant(tokens), tf.zeros(shape[:1], tf.bool), tf.ones(shape))
  carry = one.initial_carry()

  def step():
    float(one.step(batch, carry, 0.5)[1]['nats'])

  text = np.random.default_rng(1).integers(0, args.vocab_size, VALID_TOKENS, np.int32)
  batch_size = streams.evaluation_batch_size(VALID_TOKENS)
  rows = streams.evaluation_rows(VALID_TOKENS, batch_size, EVALUATION_LENGTH)

  def evaluate():
    one.evaluate(streams.evaluation_stream(text, rows, length=EVALUATION_LENGTH), batch_size)

  matrix = tf.random.normal([2048, 2048])
  compile_seconds = timed(step)
  evaluate()
  seconds = {'train': [], 'evaluate': [], 'product': []}
  for _ in range(args.repeats):
    seconds['train'].append(timed(step))
    seconds['evaluate'].append(timed(evaluate))
    seconds['product'].append(timed(lambda: tf.matmul(matrix, matrix).numpy()))
  count = shape[0] * shape[1]
  train, evaluate = rates(count, seconds['train']), rates(VALID_TOKENS, seconds['evaluate'])
  return {'train_tokens_per_second': train, 'evaluate_tokens_per_second': evaluate,
          'evaluate_over_train': {k: round(evaluate[k] / train[k], 2) for k in train},
          'compile_seconds': round(compile_seconds - min(seconds['train']), 1),
          'product_gflops': round(2 * 2048**3 / min(seconds['product']) / 1e9)}


def sample(args):
  import numpy as np

  from charlm import sampling
  writer = sampling.Writer(make_model(args), sampling.row_seeds(0, 1), temperature=0.8, top_k=0, top_p=1.0)
  _, context = writer.write(64, writer.read(np.zeros(1, np.int32)))
  seconds = []
  for _ in range(args.repeats):
    seconds.append(timed(lambda: writer.write(512, context)))
  return {'sample_tokens_per_second': rates(512, seconds)}


def main():
  args = arguments()
  if args.only:
    print(json.dumps(sample(args)))
    return
  # With one thread, as charlm-sample runs; the number of threads is fixed when TensorFlow starts.
  own = {**os.environ, 'TF_NUM_INTEROP_THREADS': '1', 'TF_NUM_INTRAOP_THREADS': '1'}
  wrote = subprocess.run([sys.executable, '-m', 'benchmarks.speed', '--only=sample', *sys.argv[1:]], env=own,
                         stdout=subprocess.PIPE, text=True, check=True).stdout
  print(json.dumps({**vars(args), **train_and_evaluate(args), **json.loads(wrote)}))


if __name__ == '__main__':
  main()
