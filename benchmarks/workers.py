"""Several processes beside one, on this machine.

    python -m benchmarks.workers [--repeats=N] [--quick]

trains a large model in one process and in two workers that share its cores, in turn; then has 2, 4 and 8 workers tell
each other something, and add up their gradients, without anything to compute. Prints Markdown.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from benchmarks.report import grid, median
from charlm.training import local_workers

LARGE = ['--units=512', '--layers=2', '--embedding_size=128', '--batch_size=64', '--chunk_length=200']
TINY = ['--units=16', '--layers=1', '--embedding_size=8', '--batch_size=4', '--chunk_length=16']
RUN = ['--steps=24', '--report_every=8', '--eval_every=0', '--sample_every=0', '--max_minutes=0']
COUNTS = 2, 4, 8
ROUNDS = 50


def speed(count, flags):
  """Tokens in a second of a run in so many workers; 0: in this one process. What compiles is left out."""
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, '-m', 'charlm.commands.train', f'--workdir={folder}/run', *flags, *RUN,
                    *([f'--local_workers={count}'] if count else [])], check=True, stdout=sys.stderr)
    lines = pathlib.Path(folder, 'run', 'metrics.jsonl').read_text().splitlines()
  return max(json.loads(line)['tokens_per_second'] for line in lines[1:])


def messages(count, megabytes):
  """-> milliseconds in which so many workers tell each other something, and in which they add up so many megabytes."""
  addresses = [f'127.0.0.1:{port}' for port in local_workers.free_ports(count)]
  workers = [subprocess.Popen([sys.executable, '-m', 'benchmarks.workers', f'--worker={megabytes}'], text=True,
                              env=local_workers.environment(addresses, index), stdout=subprocess.PIPE)
             for index in range(count)]
  told = [worker.communicate()[0] for worker in workers]
  return json.loads(told[0])


def work(megabytes):
  """What each of those workers does. Prints the milliseconds."""
  import tensorflow as tf

  from charlm.training import cluster
  from charlm.training.distribution import Distribution, make_strategy
  from charlm.training.workers import Workers
  here = cluster.of_strategy('multi_worker')
  distribution = Distribution(make_strategy('multi_worker', here), Workers(here))
  gradients = tf.ones([int(megabytes * 1e6 / 4)])

  @tf.function
  def add():
    return distribution.strategy.run(
        lambda: tf.reduce_sum(tf.distribute.get_replica_context().all_reduce('sum', gradients)))

  print(json.dumps([timed(lambda: distribution.workers.exchange([False, {'rate': 0.01}])), timed(add)]))


def timed(call):
  """The median milliseconds of a call."""
  found = []
  for _ in range(ROUNDS):
    began = time.perf_counter()
    call()
    found.append(1000 * (time.perf_counter() - began))
  return median(found)


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--repeats', type=int, default=3, help='of each side')
  parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that it works')
  parser.add_argument('--worker', type=float, help='used within: the megabytes')
  args = parser.parse_args()
  if args.worker:
    return work(args.worker)
  sides = {0: [], 2: []}
  for _ in range(args.repeats):
    for count, speeds in sides.items():
      speeds.append(speed(count, TINY if args.quick else LARGE))
  one, two = sides.values()
  print(grid(['', 'best, tokens/s', 'median'], [
      ['one process', f'{max(one):,.0f}', f'{median(one):,.0f}'],
      ['two workers', f'{max(two):,.0f}', f'{median(two):,.0f}'],
      ['ratio', f'{max(two) / max(one):.2f}', f'{median(two) / median(one):.2f}']]))
  megabytes = 0.1 if args.quick else 16
  print()
  print(grid(['workers', 'a message, ms', f'a sum of {megabytes} MB, ms'], [
      [str(count), *(f'{milliseconds:.2f}' for milliseconds in messages(count, megabytes))] for count in COUNTS]))


if __name__ == '__main__':
  main()
