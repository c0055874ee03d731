"""How fast a served model is, beside the same model in charlm's own process.

    python -m benchmarks.serving [--workdir=RUN] [--repeats=N] [--quick]

loads an export from a C++ program, as TF Serving does, and asks clients of a stand-in for the server for their
latencies. Prints Markdown. The sides take turns; times are those of processors but for latencies, because other work
on the machine comes and goes. Without a run the weights are random, which changes no time but that of a long text,
whose parts are read again for as long as the model remembers.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks.report import grid
from benchmarks.run import machine

ROOT = pathlib.Path(__file__).parents[1]
ROW = 64, 64  # prompts in one request, tokens of each
PHASES = 'load', 'first request of 64 tokens', 'a later one'


def arguments():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--workdir', help='a trained run; otherwise random weights, H 512, L 2')
  parser.add_argument('--repeats', type=int, default=3, help='of each side')
  parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that it works')
  parser.add_argument('--clients', nargs=3, help='used within: ADDRESS CLIENTS REQUESTS')
  return parser.parse_args()


def clients(address, count, requests):
  """Prints the latencies, in seconds, of so many clients at work together. Imports no TensorFlow."""
  from charlm.client import Client
  found = []

  def work(number):
    with Client(address, model='book', timeout=600) as client:
      for i in range(requests):
        began = time.perf_counter()
        client.generate(['It was'], max_new_tokens=64, seed=1000 * number + i)
        found.append(time.perf_counter() - began)

  threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  print(json.dumps(found))


def opened_model(args):
  """-> model, tokenizer."""
  from charlm.network.model import LanguageModel
  from charlm.workdir import trained_model
  from data_pipeline.tokenizers.byte import ByteTokenizer
  from flags.network import ModelConfig
  if args.workdir:
    found = trained_model.load_model(args.workdir)
    return found.model, found.tokenizer
  return LanguageModel(ModelConfig(units=32 if args.quick else 512, layers=2), 256), ByteTokenizer()


def in_process(model, tokenizer, text, requests, folder):
  """{what: seconds of processors}: the same work as the requests, in charlm's own process."""
  from charlm.evaluation import scoring
  from charlm.generation.random_streams import row_seeds
  from charlm.generation.session import Session
  from charlm.network.backend import choice
  from data_pipeline import prepare
  from flags.data import DataConfig
  native = model.with_backend(choice.choose('auto', model.config))
  path = folder / 'text'
  path.write_bytes(text)
  file = prepare.prepare(DataConfig(corpus=str(path), tokenizer=tokenizer.kind, valid_fraction=0.0,
                                    cache_dir=str(folder / 'cache')), progress=False)[1]['train']
  scorer = scoring.PlainScorer(native)
  work = {'score': lambda: scoring.score_file(scorer, file)}
  for name, (rows, length) in requests.items():
    session = Session(native, row_seeds(0, rows), temperature=0.8, top_k=0, top_p=1.0)
    state = session.read([tokenizer.encode(b'It was')])
    work[name] = lambda session=session, state=state, length=length: session.write(length, state)

  def measure():
    found = {}
    for name, run in work.items():
      began = time.process_time()
      run()
      found[name] = time.process_time() - began
    return found

  measure()  # which compiles
  return measure


def served(program, folder, work, warm):
  """Runs requests of 64 tokens and then other work in C++, after warm-up requests.

  Returns:
    Seconds of processors: {what: seconds} of the work; and of loading, the first request and a later one.
  """
  import cpp_loader
  small = generate(1, 64)
  answers, times = cpp_loader.ask(program, folder, [*warm, small, small, *work.values()])
  assert all(isinstance(answer, dict) for answer in answers), answers
  cpu = [seconds for _, _, seconds in times]
  first = 1 + len(warm)
  return dict(zip(work, cpu[first + 2:], strict=True)), dict(zip(PHASES, (cpu[0], *cpu[first:first + 2]), strict=True))


def generate(rows, length):
  """A request."""
  import numpy as np
  options = {'max_new_tokens': np.int32([length]), 'temperature': np.float32([0.8]), 'top_k': np.int32([0]),
             'top_p': np.float32([1]), 'seed': np.arange(rows, dtype=np.int64)}
  return 'generate', {'prompt': np.array(['It was'] * rows, object), **options}


def latencies(folder, quick):
  """Lines of the table of latencies."""
  import tensorflow as tf

  import stand_in
  signatures = tf.saved_model.load(str(folder)).signatures
  lines = []
  for start in (stand_in.rest, stand_in.grpc):
    with start(signatures) as address:
      for count in (1, 8, 64):
        requests = 1 if quick else max(2, 64 // count)
        done = subprocess.run([sys.executable, '-m', 'benchmarks.serving', '--clients', address, str(count),
                               str(requests)], capture_output=True, text=True, check=True, cwd=ROOT)
        found = sorted(json.loads(done.stdout))
        p50, p99 = statistics.median(found), found[min(len(found) - 1, int(0.99 * len(found)))]
        lines.append([address.partition(':')[0], count, len(found), f'{p50 * 1e3:,.0f}', f'{p99 * 1e3:,.0f}'])
  return lines


def exported(args, place):
  """-> the model, its tokenizer, the folder of its export, the warm-up requests, and how long the export took."""
  from charlm.serving import export, warm_up
  from charlm.serving.signatures import ServedModel
  from flags.serving import ExportConfig
  (model, tokenizer), config = opened_model(args), ExportConfig(export_dir=str(place / 'served'))
  began = time.perf_counter(), os.times()
  folder = export.export(model, tokenizer, config, facts={})
  after = os.times()
  cpu = sum(after[:4]) - sum(began[1][:4])  # with the process that checks it
  warm = warm_up.requests(ServedModel(model, tokenizer, config))
  return model, tokenizer, folder, warm, f'{time.perf_counter() - began[0]:.0f} s, {cpu:.0f} s of processors'


def tables(args, place):
  """Measures, and prints each table."""
  import numpy as np

  import cpp_loader
  text = ((ROOT / 'README.md').read_bytes() * 50)[:4_000 if args.quick else 100_000]
  requests = {'1 prompt, 256 tokens': (1, 16 if args.quick else 256), f'{ROW[0]} prompts, {ROW[1]} tokens': ROW}
  model, tokenizer, folder, warm, took = exported(args, place)
  print(f'Export with its check: {took}.\n', flush=True)
  program, measure = cpp_loader.build(place), in_process(model, tokenizer, text, requests, place)
  work = {name: generate(*size) for name, size in requests.items()} | {
    'score': ('score', {'text': np.array([text], object)})}
  sides = {'served': [], 'own': [], 'cold': [], 'warm': []}
  for _ in range(args.repeats):
    sides['cold'].append(served(program, folder, {}, [])[1])
    for side, found in zip(('served', 'warm'), served(program, folder, work, [*warm.items()]), strict=True):
      sides[side].append(found)
    sides['own'].append(measure())

  def best(side, name):
    return min(found[name] for found in sides[side])

  lines = [[f'{name} of {len(text):,} bytes' if name == 'score' else name, f'{best("served", name):.2f} s',
            f'{best("own", name):.2f} s', f'{best("own", name) / best("served", name):.2f}']
           for name in (*requests, 'score')]
  print(grid(['work', 'served, in C++', 'in process', 'ratio'], lines), '\n', flush=True)
  lines = [[side, *(f'{best(side, name):.3f} s' for name in PHASES)] for side in ('cold', 'warm')]
  print(grid(['', *PHASES], lines), '\n', flush=True)
  print(grid(['', 'clients', 'requests', 'p50, ms', 'p99, ms'], latencies(folder, args.quick)))


def main():
  args = arguments()
  if args.clients:
    return clients(args.clients[0], *map(int, args.clients[1:]))
  sys.path.append(str(ROOT / 'tests'))
  print(', '.join(f'{name} {value}' for name, value in machine(None).items()), '\n')
  with tempfile.TemporaryDirectory() as place:
    tables(args, pathlib.Path(place))


if __name__ == '__main__':
  main()
