"""Runs of charlm-train for the benchmarks that compare what they learn, and their figures in words."""
import concurrent.futures
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

from charlm.workdir import metrics
from flags.errors import RunError

# A small model that one core trains at 40,000 tokens/s.
BASELINE = dict(tokenizer='char', batch_size=16, chunk_length=64, embedding_size=64, input_units=128, units=128,
                layers=2, learning_rate=0.005)


def sweep(wanted, measure, path, jobs):
  """Measures what the file has not yet, so many at a time; -> all that are done, after each (once, if all are).

  Each is a line of the file once it is done, so that the same sweep goes on where it was stopped.

  Args:
    wanted: dicts, each of which says what a run is.
    measure: run, threads -> dict of its figures. Each of the runs side by side has its share of the cores, because
      small models use one core better than two.
    path: of the file.
    jobs: how many at a time.
  """
  threads = max(1, (os.cpu_count() or 1) // jobs)
  wanted = [run | {'threads': threads} for run in wanted]
  kept = metrics.read_lines(path)
  path.write_text(''.join(json.dumps(run) + '\n' for run in kept))  # without a line torn by a kill
  done = [run for run in kept if any(run.items() >= other.items() for other in wanted)]
  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    started = {pool.submit(measure, run, threads): run for run in wanted
               if not any(other.items() >= run.items() for other in done)}
    try:
      for future in concurrent.futures.as_completed(started):
        done.append(started[future] | future.result())
        with open(path, 'a') as file:
          file.write(json.dumps(done[-1]) + '\n')
        yield done
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  if not started:
    yield done


def jobs(text):
  """The value of --jobs."""
  if int(text) < 1:
    raise ValueError(text)
  return int(text)


def other_flags(parser, flags, taken=()):
  """What parse_known_args left, flags of charlm-train -> {name: text}; `taken` are those that the sweep sets."""
  found = {}
  for flag in flags:
    if not (match := re.fullmatch(r'--(\w+)=(.*)', flag)):
      parser.error(f'{flag}: expected --NAME=VALUE')
    if match[1] in taken:
      parser.error(f'--{match[1]}: is set by the sweep')
    found[match[1]] = match[2]
  return found


def run(module, *arguments, threads=0):
  """-> what a command writes, with so many threads (0: its own choice). Raises RunError, with its last words."""
  command = [sys.executable, '-m', module, *arguments]
  environment = os.environ | ({'TF_NUM_INTRAOP_THREADS': str(threads)} if threads else {})
  result = subprocess.run(command, capture_output=True, text=True, env=environment)
  if result.returncode:
    said = result.stderr.strip().splitlines() or [f'exit status {result.returncode}']
    raise RunError(f'{" ".join(command)}\n{said[-1]}')
  return result.stdout


def train(workdir, arguments, threads=0):
  """-> the lines of metrics.jsonl of one run. Errors and threads as in `run`."""
  run('charlm.commands.train', f'--workdir={workdir}', '--sample_every=0', '--save_every=0', *arguments,
      threads=threads)
  return metrics.read_metrics(pathlib.Path(workdir, 'metrics.jsonl'))


def free_running(workdir, steps, threads=0):
  """-> loss of each of so many tokens on the model's own samples, of the validation split. Errors as in `run`."""
  report = run('charlm.commands.evaluate', f'--workdir={workdir}', f'--free_running={steps}', threads=threads)
  return json.loads(report)['free_running_nats_per_token']


def cold_start(workdir, steps, threads=0):
  """-> loss of each of so many tokens after fresh starts all along the validation split. Errors as in `run`."""
  report = run('benchmarks.cold_start', f'--workdir={workdir}', f'--tokens={steps}', threads=threads)
  return json.loads(report)['nats_per_token']


def spread(values):
  """Mean and standard deviation, in words."""
  return f'{statistics.mean(values):.4f}' + (f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else '')
