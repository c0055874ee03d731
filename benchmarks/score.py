"""charlm-score beside charlm-evaluate, and what its page takes a browser.

    python -m benchmarks.score --workdir=DIR --corpus=FILE [--rounds=2]

runs the whole commands in turn, on the same text, and prints a JSON object: the seconds of processor time of each, and
the ratios of their means to charlm-evaluate's; the bytes of the page; and, where there is Chromium, the milliseconds to
its first paint, and of the longest task while it is scrolled, half a window at a time and then in leaps.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

from benchmarks import browser

PAINT = '''
const done = arguments[0];
new PerformanceObserver(list => done(list.getEntries()[0].startTime)).observe({type: 'paint', buffered: true});
'''
SCROLL = '''
const done = arguments[0], height = document.documentElement.scrollHeight;
let longest = 0, frames = 0, y = 0;
new PerformanceObserver(list => {
  longest = Math.max(longest, ...list.getEntries().map(entry => entry.duration));
}).observe({type: 'longtask'});
function step() {
  y += frames < 100 ? innerHeight / 2 : height / 100;
  scrollTo(0, y % height);
  if (++frames < 200) requestAnimationFrame(step);
  else setTimeout(() => done(longest), 1000);
}
requestAnimationFrame(step);
'''


def processor_seconds(command, *arguments):
  """What a command takes as a process of its own."""
  def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

  before = used()
  subprocess.run([sys.executable, '-m', f'charlm.commands.{command}', *arguments], check=True, capture_output=True)
  return round(used() - before, 2)


def in_a_browser(page):
  """{what: milliseconds}; empty without a browser."""
  if browser.MISSING:
    return {}
  with browser.browser() as window:
    window.open(page)
    return {'first_paint_ms': window.wait(PAINT), 'longest_task_ms': window.wait(SCROLL)}


def main():
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--rounds', type=int, default=2)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    page = pathlib.Path(folder, 'page.html')
    commands = {'evaluate': ['evaluate', f'--corpus={args.corpus}', '--split=all', f'--cache_dir={folder}'],
                'score': ['score', args.corpus], 'html': ['score', args.corpus, f'--html={page}']}
    seconds = {name: [] for name in commands}
    for _ in range(args.rounds):
      for name, (command, *arguments) in commands.items():
        seconds[name].append(processor_seconds(command, f'--workdir={args.workdir}', *arguments))
    means = {name: statistics.mean(values) for name, values in seconds.items()}
    print(json.dumps({'processor_seconds': seconds, 'ratio': {n: m / means['evaluate'] for n, m in means.items()},
                      'page_bytes': page.stat().st_size, **in_a_browser(page)}))


if __name__ == '__main__':
  main()
