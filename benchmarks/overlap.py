"""What overlap between chunks buys, with the right state carried: loss for the same text, work and time.

    python -m benchmarks.overlap [--corpus=pydoc] [--chunk_length=64] [--overlaps=0,16,32,48] [--seeds=3]
                                 [--epochs=2] [--steps=1000] [--minutes=1] [--json=overlap.json] [--units=192 ...]

trains the same model with each overlap and seed, once for each budget (0 leaves one out):

  epochs    the same text: chunks that overlap by half do twice the work on it
  steps     the same work, in tokens trained: a token counts in each chunk that it is in
  minutes   the same time by the clock, preparation and compilation included

Overlaps are in tokens, by default none and one, two and three quarters of the chunk. Other flags go to charlm-train.
The overlaps take turns, so that what else goes on in the machine meets all of them. A table in Markdown goes to
standard output: the validation loss at the end of the budget, its mean and standard deviation over the seeds. The JSON
file has every line that the runs reported, with tokens and seconds.
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks.training import spread, train

BUDGETS = {'epochs': '--epochs', 'steps': '--steps', 'minutes': '--max_minutes'}


def table(runs):
  """Runs -> Markdown: a row for each budget and overlap; differences are between runs of one seed."""
  lines = ['| budget | overlap | steps | tokens trained | passes over the text | seconds | valid nats per token | '
           'less that of the least overlap |', '| --- ' * 8 + '|']
  for budget in dict.fromkeys(run['budget'] for run in runs):
    group = [run for run in runs if run['budget'] == budget]
    least = min(run['overlap'] for run in group)
    plain = {run['seed']: run['valid'] for run in group if run['overlap'] == least}
    for overlap in dict.fromkeys(run['overlap'] for run in group):
      same = [run for run in group if run['overlap'] == overlap]
      last = [run['metrics'][-1] for run in same]
      means = [statistics.mean(line[name] for line in last) for name in ('step', 'tokens', 'epoch', 'seconds')]
      lines.append(f'| {budget} | {overlap} of {same[0]["chunk_length"]} | {means[0]:,.0f} | {means[1]:,.0f} | '
                   f'{means[2]:.2f} | {means[3]:,.0f} | {spread([run["valid"] for run in same])} | '
                   f'{spread([run["valid"] - plain[run["seed"]] for run in same])} |')
  return '\n'.join(lines)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--corpus', default='pydoc')
  parser.add_argument('--chunk_length', type=int, default=64)
  parser.add_argument('--overlaps')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--epochs', type=float, default=2)
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--minutes', type=float, default=1)
  parser.add_argument('--json')
  args, flags = parser.parse_known_args()
  quarters = [args.chunk_length * i // 4 for i in range(4)]
  overlaps, runs = [int(n) for n in args.overlaps.split(',')] if args.overlaps else quarters, []
  for budget, flag in BUDGETS.items():
    amount = getattr(args, budget)
    for seed in range(args.seeds if amount else 0):
      for overlap in overlaps:
        with tempfile.TemporaryDirectory() as workdir:
          lines = train(workdir, [f'--corpus={args.corpus}', f'--chunk_length={args.chunk_length}', f'--seed={seed}',
                                  f'--chunk_overlap={overlap}', f'{flag}={amount}', *flags])
        runs.append({'budget': f'{budget}={amount:g}', 'overlap': overlap, 'chunk_length': args.chunk_length,
                     'seed': seed, 'valid': lines[-1]['valid_nats_per_token'], 'metrics': lines})
        print(f'{runs[-1]["budget"]} overlap {overlap} seed {seed}: {runs[-1]["valid"]:.4f}', file=sys.stderr)
        if args.json:
          whole = {'corpus': args.corpus, 'flags': flags, 'runs': runs}
          pathlib.Path(args.json).write_text(json.dumps(whole, indent=1))
  print(table(runs))


if __name__ == '__main__':
  main()
