"""How fast charlm is, beside PyTorch where there is one.

    python -m benchmarks.run [--torch_python=PATH] [--repeats=N] [--quick] [--only=NAMES] [--json=FILE]

prints Markdown on standard output and progress on standard error. The sides of a comparison take turns within one
run, because other work on the machine comes and goes; benchmarks/README.md says what each line is.
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

from benchmarks import comparisons, report


def arguments():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--torch_python', help='a Python that has PyTorch')
  parser.add_argument('--repeats', type=int, default=7, help='of each side, after one to warm up')
  parser.add_argument('--quick', action='store_true', help='tiny sizes, to see that it works; no goals')
  parser.add_argument('--only', default=','.join(comparisons.SECTIONS), help='some of the default, separated by commas')
  parser.add_argument('--json', help='a file for every figure and every repeat')
  args = parser.parse_args()
  args.only = args.only.split(',')
  if set(args.only) - set(comparisons.SECTIONS):
    parser.error(f'--only={",".join(args.only)}: expected some of {",".join(comparisons.SECTIONS)}')
  return args


def machine(torch_python):
  cpu = re.search(r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text())
  facts = {'date': time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
           'cpu': cpu[1] if cpu else platform.processor(), 'cores': os.cpu_count(), 'system': platform.platform(),
           'python': platform.python_version(), 'tensorflow': importlib.metadata.version('tensorflow'),
           'load_before': round(os.getloadavg()[0], 2)}
  if torch_python:
    facts['torch'] = subprocess.run([torch_python, '-c', 'import torch; print(torch.__version__)'], check=True,
                                    stdout=subprocess.PIPE, text=True).stdout.strip()
  return facts


def main():
  args = arguments()
  began = time.perf_counter()
  section = ''

  def note(text):
    print(f'{time.perf_counter() - began:6.0f} s  {section}: {text}', file=sys.stderr, flush=True)

  facts = machine(args.torch_python)
  sizes = comparisons.QUICK if args.quick else comparisons.FULL
  bench = comparisons.Bench(sizes, args.torch_python, args.repeats, note)
  rows, failed = [], []
  for section in args.only:
    try:
      rows += getattr(bench, section)()
    except RuntimeError as error:  # the other sections may have taken an hour
      failed.append(section)
      note(f'failed: {error}')
  if args.quick:
    rows = [row._replace(goal=None) for row in rows]
  print(', '.join(f'{name} {value}' for name, value in facts.items()))
  print(f'\nBest and median of {args.repeats} repeats of each side, in turn.\n')
  print(report.table(rows))
  for title, headings, lines in bench.tables:
    print(f'\n{title}\n\n{report.grid(headings, lines)}')
  if args.json:
    tables = [{'title': title, 'lines': [dict(zip(headings, map(str, line), strict=True)) for line in lines]}
              for title, headings, lines in bench.tables]
    everything = {'machine': facts, 'arguments': vars(args), 'seconds': round(time.perf_counter() - began),
                  'rows': [row.asdict() for row in rows], 'tables': tables, 'measured': bench.measured}
    pathlib.Path(args.json).write_text(json.dumps(everything, indent=2, ensure_ascii=False) + '\n')
  if failed:
    sys.exit(f'failed: {", ".join(failed)}')


if __name__ == '__main__':
  main()
