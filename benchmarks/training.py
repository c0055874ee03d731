"""Runs of charlm-train for the benchmarks that compare what they learn, and their figures in words."""
import json
import os
import pathlib
import statistics
import subprocess
import sys

from charlm import record
from charlm.config import RunError


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
  run('charlm.train', f'--workdir={workdir}', '--sample_every=0', '--save_every=0', *arguments, threads=threads)
  return record.read_metrics(pathlib.Path(workdir, 'metrics.jsonl'))


def free_running(workdir, steps, threads=0):
  """-> loss of each of so many tokens on the model's own samples, of the validation split. Errors as in `run`."""
  report = run('charlm.evaluate', f'--workdir={workdir}', f'--free_running={steps}', threads=threads)
  return json.loads(report)['free_running_nats_per_token']


def spread(values):
  """Mean and standard deviation, in words."""
  return f'{statistics.mean(values):.4f}' + (f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else '')
