"""What overlap between chunks buys, with the right state carried: loss for the same text, work and time.

    python -m benchmarks.overlap --corpus=TEXT [--chunks=0/64,16/64,32/64,48/64,0/32,0/16] [--seeds=3] [--jobs=2]
                                 [--epochs=2] [--tokens=2048000] [--minutes=1] [--out=overlap] [--units=256 ...]

trains the baseline of the ablation with each kind of chunk, OVERLAP/LENGTH in tokens, and seed, once for each budget (0
leaves one out):

  epochs    the same text: chunks that overlap by half do twice the work on it
  tokens    the same work: a token counts in each chunk that it is in
  minutes   the same time by the clock, preparation and compilation included

Short chunks without overlap are the control: 0/16 makes as many steps over a text as 48/64, of a quarter of the work.
Other flags, as --NAME=VALUE, go to charlm-train. JOBS runs go on side by side; each is a line of OUT/runs.jsonl when it
is done, with every line that it reported, and the same command goes on where it was stopped. OUT/table.md has the
validation loss at the end of the budget, its mean and standard deviation over the seeds.
"""
import argparse
import pathlib
import statistics
import sys
import tempfile

from benchmarks.training import BASELINE, jobs, other_flags, spread, sweep, train

SAME = dict(dropout=0, recurrent_dropout=0, activation_penalty=0, weight_decay=0, eval_every=0)  # no time shall choose
TAKEN = 'chunk_length', 'chunk_overlap', 'chunk_curriculum', 'seed', 'steps', 'max_minutes'


def table(runs):
  """Runs, in order -> Markdown: a row for each budget and chunk, compared with the budget's first, seed by seed."""
  lines = ['| budget | overlap | steps | tokens trained | passes over the text | seconds | valid nats per token | '
           'difference from the first |', '| --- ' * 8 + '|']
  for budget in dict.fromkeys(run['budget'] for run in runs):
    group = [run for run in runs if run['budget'] == budget]
    chunks = list(dict.fromkeys(run['chunk'] for run in group))
    first = {run['seed']: run['valid'] for run in group if run['chunk'] == chunks[0]}
    for chunk in chunks:
      same = [run for run in group if run['chunk'] == chunk]
      last = [run['metrics'][-1] for run in same]
      differences = [run['valid'] - first[run['seed']] for run in same if run['seed'] in first]
      means = [statistics.mean(line[name] for line in last) for name in ('step', 'tokens', 'epoch', 'seconds')]
      lines.append(f'| {budget} | {chunk.replace("/", " of ")} | {means[0]:,.0f} | {means[1]:,.0f} | '
                   f'{means[2]:.2f} | {means[3]:,.0f} | {spread([run["valid"] for run in same])} | '
                   f'{spread(differences) if differences else ""} |')
  return '\n'.join(lines)


def measure(run, threads):
  """Trains with an overlap -> figures of the run."""
  with tempfile.TemporaryDirectory() as workdir:
    lines = train(workdir, run['flags'], threads)
  return {'valid': lines[-1]['valid_nats_per_token'], 'metrics': lines}


def chunks(text):
  """'16/64,0/32' -> [(16, 64), (0, 32)]."""
  return [tuple(map(int, chunk.split('/'))) for chunk in text.split(',')]


def budgets(args, batch_size, length):
  """The budgets asked for -> pairs of its name and its flag of charlm-train, for chunks of `length` tokens."""
  steps = max(1, round(args.tokens / batch_size / length))
  wanted = [('epochs', args.epochs, f'--epochs={args.epochs}'), ('tokens', args.tokens, f'--steps={steps}'),
            ('minutes', args.minutes, f'--max_minutes={args.minutes}')]
  return [(f'{name}={amount:,.9g}', flag) for name, amount, flag in wanted if amount]


def main():
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--chunks', type=chunks, default='0/64,16/64,32/64,48/64,0/32,0/16')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--jobs', type=jobs, default=2)
  parser.add_argument('--epochs', type=float, default=2)
  parser.add_argument('--tokens', type=int, default=2048000)
  parser.add_argument('--minutes', type=float, default=1)
  parser.add_argument('--out', default='overlap')
  args, flags = parser.parse_known_args()
  base = BASELINE | SAME | other_flags(parser, flags, taken=TAKEN)
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  wanted = [{'budget': budget, 'chunk': f'{overlap}/{length}', 'seed': seed, 'flags': [
      f'--corpus={args.corpus}', *(f'--{name}={value}' for name, value in (base | {'chunk_length': length}).items()),
      flag, f'--chunk_overlap={overlap}', f'--seed={seed}']}
            for seed in range(args.seeds) for overlap, length in args.chunks
            for budget, flag in budgets(args, int(base['batch_size']), length)]
  for runs in sweep(wanted, measure, out / 'runs.jsonl', args.jobs):
    order = sorted(runs, key=lambda run: wanted.index({k: run[k] for k in wanted[0]}))
    (out / 'table.md').write_text(table(order) + '\n')
    print(f'{len(runs)} of {len(wanted)}: {runs[-1]["budget"]} chunks {runs[-1]["chunk"]} seed {runs[-1]["seed"]}: '
          f'{runs[-1]["valid"]:.4f}', file=sys.stderr)
  print(table(order))


if __name__ == '__main__':
  main()
