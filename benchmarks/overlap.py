"""What overlap between chunks buys, with the right state carried: loss for the same text, work and time.

    python -m benchmarks.overlap --corpus=TEXT [--overlaps=0,16,32,48] [--seeds=3] [--jobs=2] [--epochs=2]
                                 [--steps=2000] [--minutes=1] [--out=overlap] [--units=256 ...]

trains the baseline of the ablation with each overlap and seed, once for each budget (0 leaves one out):

  epochs    the same text: chunks that overlap by half do twice the work on it
  steps     the same work, in tokens trained: a token counts in each chunk that it is in
  minutes   the same time by the clock, preparation and compilation included

Overlaps are in tokens of chunks of 64. Other flags go to charlm-train. JOBS runs go on side by side; each is a line of
OUT/runs.jsonl when it is done, with every line that it reported, and the same command goes on where it was stopped.
OUT/table.md has the validation loss at the end of the budget, its mean and standard deviation over the seeds.
"""
import argparse
import pathlib
import statistics
import sys
import tempfile

from benchmarks.training import BASELINE, jobs, spread, sweep, train

SAME = dict(dropout=0, recurrent_dropout=0, weight_decay=0, eval_every=0)  # where a time would choose what fits it
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


def measure(run, threads):
  """Trains with an overlap -> figures of the run."""
  with tempfile.TemporaryDirectory() as workdir:
    lines = train(workdir, run['flags'], threads)
  return {'valid': lines[-1]['valid_nats_per_token'], 'metrics': lines}


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--overlaps', default='0,16,32,48')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--jobs', type=jobs, default=2)
  parser.add_argument('--epochs', type=float, default=2)
  parser.add_argument('--steps', type=int, default=2000)
  parser.add_argument('--minutes', type=float, default=1)
  parser.add_argument('--out', default='overlap')
  args, flags = parser.parse_known_args()
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  wanted = [{'budget': f'{budget}={amount:g}', 'overlap': overlap, 'chunk_length': BASELINE['chunk_length'],
             'seed': seed, 'flags': [f'--corpus={args.corpus}', *(f'--{k}={v}' for k, v in (BASELINE | SAME).items()),
                                     f'{flag}={amount}', f'--chunk_overlap={overlap}', f'--seed={seed}', *flags]}
            for seed in range(args.seeds) for budget, flag in BUDGETS.items() if (amount := getattr(args, budget))
            for overlap in map(int, args.overlaps.split(','))]
  for runs in sweep(wanted, measure, out / 'runs.jsonl', args.jobs):
    order = sorted(runs, key=lambda run: wanted.index({k: run[k] for k in wanted[0]}))
    (out / 'table.md').write_text(table(order) + '\n')
    print(f'{len(runs)} of {len(wanted)}: {runs[-1]["budget"]} overlap {runs[-1]["overlap"]} seed {runs[-1]["seed"]}: '
          f'{runs[-1]["valid"]:.4f}', file=sys.stderr)
  print(table(order))


if __name__ == '__main__':
  main()
