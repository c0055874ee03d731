"""Runs of charlm-train for the benchmarks that compare what they learn, and their figures in words."""
import pathlib
import statistics
import subprocess
import sys

from charlm import record
from charlm.config import RunError


def train(workdir, arguments):
  """-> the lines of metrics.jsonl of one run. Raises RunError, with what the run said last, where it fails."""
  command = [sys.executable, '-m', 'charlm.train', f'--workdir={workdir}', '--sample_every=0', '--save_every=0',
             *arguments]
  result = subprocess.run(command, capture_output=True, text=True)
  if result.returncode:
    raise RunError(f'{" ".join(command)}\n{result.stderr.strip().splitlines()[-1]}')
  return record.read_metrics(pathlib.Path(workdir, 'metrics.jsonl'))


def spread(values):
  """Mean and standard deviation, in words."""
  return f'{statistics.mean(values):.4f}' + (f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else '')
