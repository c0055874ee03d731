"""What each option is worth: one baseline, and each option off or on in turn, with the same budget, over several seeds.

    python -m benchmarks.ablation --corpus=TEXT [--steps=1000] [--seeds=3] [--jobs=2] [--only="lstm;zoneout"]
                                  [--out=ablation] [--units=256 ...]

trains BASELINE and every variant of it (VARIANTS) on a text of at least 1 MB. The budget is in tokens that a step
trains on: where chunks are longer or shorter there are fewer or more steps. All variants run with one seed before any
runs with the next, and each run is a line of OUT/runs.jsonl when it is done: the same command goes on where it was
stopped, and what is there makes a table. OUT/table.md has the table and OUT/plot.png the differences; both are written
anew after each run. JOBS runs go on side by side. What learns from its own predictions is evaluated on them, too, and
what changes the initial state on fresh starts, in tables of their own. Other flags, as --NAME=VALUE, go to charlm-train
in place of the baseline's.

A variant differs from one other, the baseline where none is named, and is compared with it seed by seed. One spread is
the standard deviation over seeds, estimated from the median of all variants, because a few are far noisier. A mean of n
differences is by chance alone beyond 2·sqrt(2/n) spreads in 1 of 20 comparisons, at most: what changes little has the
luck of the baseline.
"""
import argparse
import math
import os
import pathlib
import statistics
import sys
import tempfile

from benchmarks.training import BASELINE, cold_start, free_running, jobs, other_flags, spread, sweep, train
from charlm.workdir import checkpoint
from flags.data import parse_lengths
from flags.errors import RunError

# name: flags, or flags and the variant that they are added to. The rates of other optimizers are those that are usual
# for them beside Adam's.
VARIANTS = {
    'baseline': {},
    # normalisation and first biases
    'no layer norm': dict(layer_norm=False),
    'joint layer norm': dict(norm='joint'),
    'reset bias 0': dict(reset_bias=0.0),
    'update bias 0': dict(update_bias=0.0),
    'update bias -2': dict(update_bias=-2.0),
    # cell
    'lstm': dict(cell='lstm'),
    'lstm, cell norm': (dict(cell_norm=True), 'lstm'),
    'lstm, forget bias 0': (dict(forget_bias=0.0), 'lstm'),
    'lstm, zoneout': (dict(zoneout=0.1, zoneout_output=0.05), 'lstm'),
    # layers, and what reads what
    'no input layer': dict(input_layers=0, input_units=256),
    'two input layers': dict(input_layers=2),
    'one layer': dict(layers=1),
    'three layers': dict(layers=3),
    'last layer only': dict(combine='last'),
    'layers side by side': dict(combine='concat'),
    'three layers, residual': (dict(wiring='residual'), 'three layers'),
    'three layers, dense': (dict(wiring='dense'), 'three layers'),
    'three layers, dual path': (dict(wiring='dual_path'), 'three layers'),
    'three layers, last only': (dict(combine='last'), 'three layers'),
    'tied embeddings': dict(tie_embeddings=True),
    # state
    'initial state zeros': dict(initial_state='zeros'),
    'initial state noise': dict(initial_state='noise'),
    'state reset in 1% of chunks': dict(reset_probability=0.01),
    'state not carried': dict(reset_probability=1.0),
    'each speech a document': dict(document_reset=True, document_separator='\\n\\n'),
    # noise
    'dropout': dict(dropout=0.1),
    'dropout, one mask a chunk': (dict(dropout_per='sequence'), 'dropout'),
    'input dropout': dict(input_dropout=0.1),
    'layer dropout': dict(layer_dropout=0.1),
    'output dropout': dict(output_dropout=0.1),
    'embedding dropout': dict(embedding_dropout=0.05),
    'recurrent dropout': dict(recurrent_dropout=0.1),
    'zoneout': dict(zoneout=0.1),
    'weight drop': dict(weight_drop=0.2),
    # penalties
    'activation penalty': dict(activation_penalty=1.0),
    'temporal penalty': dict(temporal_penalty=1.0),
    'weight decay 0.01': dict(weight_decay=0.01),
    'weight decay 0.1': dict(weight_decay=0.1),
    # optimizer
    'adamw': dict(optimizer='adamw'),
    'nadam': dict(optimizer='nadam'),
    'rmsprop': dict(optimizer='rmsprop', learning_rate=0.002),
    'lion': dict(optimizer='lion', learning_rate=0.0007),
    'sgd': dict(optimizer='sgd', learning_rate=1.0),
    'sgd, momentum': (dict(optimizer_constants='momentum=0.9', learning_rate=0.1), 'sgd'),
    'a third of the learning rate': dict(learning_rate=0.0017),
    'three times the learning rate': dict(learning_rate=0.015),
    'no warm-up': dict(warmup_steps=0),
    'no clipping': dict(clip_norm=0.0),
    'clip to the median norm': dict(clip_percentile=50.0),
    # schedule and averages
    'linear schedule': dict(schedule='linear'),
    'constant rate': dict(schedule='constant'),
    'final rate a fifth': dict(final_fraction=0.2),
    'plateau schedule': dict(schedule='plateau', plateau_patience=2, eval_every=20),
    'moving average': dict(average='ema', ema_decay=0.99),
    'constant rate, moving average': (dict(average='ema', ema_decay=0.99), 'constant rate'),
    'constant rate, triggered average': (dict(average='validation', average_patience=2, eval_every=20),
                                         'constant rate'),
    # chunks
    'chunks of 16': dict(chunk_length=16),
    'chunks of 32': dict(chunk_length=32),
    'chunks of 128': dict(chunk_length=128),
    'overlap by half': dict(chunk_overlap=32),
    'chunks of 32, 64, 96 in turn': dict(chunk_curriculum='32,64,96'),
    # what the model reads that it wrote itself
    'multi-step loss': dict(multi_step=10),
    'multi-step loss, expected': (dict(multi_step_input='expected'), 'multi-step loss'),
    'multi-step loss, a fifth': (dict(multi_step_weight=0.2), 'multi-step loss'),
    'multi-step loss, half mixed': (dict(multi_step_mix=0.5), 'multi-step loss'),
    'multi-step loss, mixed in linearly': (dict(multi_step_schedule='linear'), 'multi-step loss'),
    'professor forcing': (dict(professor_forcing=0.5), 'multi-step loss'),
    'professor forcing, both ways': (dict(professor_forcing_teacher=True), 'professor forcing'),
    'bfloat16 products': dict(compute_dtype='bfloat16'),
}
EVALUATIONS = 6  # in a run, to pick the best; what waits for evaluations has more
COLD = ('baseline', 'initial state zeros', 'initial state noise', 'state reset in 1% of chunks', 'state not carried',
        'each speech a document')  # also judged where they start afresh
AFTER = 1, 2, 5, 10, 20  # tokens, of those that follow on a start, that the tables have


def against(name):
  """The variant that this one is compared with."""
  return VARIANTS[name][1] if isinstance(VARIANTS[name], tuple) else 'baseline'


def options(name, base=BASELINE):
  """{flag: value} of a variant of the base, what it is added to included."""
  if name == 'baseline':
    return dict(base)
  own = VARIANTS[name][0] if isinstance(VARIANTS[name], tuple) else VARIANTS[name]
  chosen = options(against(name), base) | own
  if 'chunk_curriculum' in chosen:
    del chosen['chunk_length']
  if 'input_layers' in own and not own['input_layers']:
    del chosen['input_units']
  return chosen


def arguments(name, corpus, steps, seed, base=BASELINE):
  """The flags of a run with as many tokens as the base has in `steps` steps."""
  chosen = options(name, base)
  lengths = parse_lengths(chosen.get('chunk_curriculum', '')) or (chosen['chunk_length'],)
  steps = round(steps * int(base['chunk_length']) / statistics.mean(map(int, lengths)))
  eval_every = chosen.pop('eval_every', -(-steps // EVALUATIONS))
  return [f'--corpus={corpus}', f'--steps={steps}', f'--eval_every={eval_every}', f'--seed={seed}',
          *(f'--{flag}={value}' for flag, value in chosen.items())]


def measure(run, threads):
  """Trains a variant -> figures of the run, or what it failed of."""
  name = run['variant']
  with tempfile.TemporaryDirectory() as workdir:
    try:
      lines = train(workdir, run['flags'], threads)
      alone = name == 'baseline' or 'multi_step' in options(name)
      after = {'free': free_running(workdir, max(AFTER), threads)} if alone else {}
      after |= {'cold': cold_start(workdir, max(AFTER), threads)} if name in COLD else {}
    except RunError as error:
      return {'failed': str(error).splitlines()[-1]}
    weights, _ = checkpoint.read(checkpoint.best_path(workdir))
  valid = [line['valid_nats_per_token'] for line in lines if 'valid_nats_per_token' in line]
  return {'valid': min(valid), 'last': valid[-1], 'seconds': lines[-1]['seconds'],
          'speed': statistics.median(line['tokens_per_second'] for line in lines if 'tokens_per_second' in line),
          'parameters': sum(a.size for name, a in weights.items() if name.startswith('model/')), **after}


def summarise(runs):
  """Runs -> (rows, one spread in nats or None where no variant has two seeds).

  A row: name, against, valid (by seed), differences (of the seeds that both have), speed, parameters; or name, failed.
  """
  valid = {name: {run['seed']: run['valid'] for run in runs if run['variant'] == name and 'valid' in run}
           for name in VARIANTS}
  rows = []
  for name in VARIANTS:
    same = [run for run in runs if run['variant'] == name]
    done = [run for run in same if 'valid' in run]
    other = valid[against(name)]
    if done:
      rows.append({'name': name, 'against': against(name), 'valid': list(valid[name].values()),
                   'differences': [v - other[seed] for seed, v in valid[name].items() if seed in other],
                   'speed': statistics.median(run['speed'] for run in done), 'parameters': done[0]['parameters'],
                   'failures': len(same) - len(done)})
    elif same:
      rows.append({'name': name, 'failed': same[-1]['failed']})
  # The median of variances from k + 1 seeds is less than their mean by this much (Wilson and Hilferty 1931).
  variances = [statistics.variance(v.values()) / (1 - 2 / (9 * (len(v) - 1)))**3 for v in valid.values() if len(v) > 1]
  return rows, math.sqrt(statistics.median(variances)) if variances else None


def chance(row):
  """Spreads that a mean difference of as many seeds goes beyond by chance alone in 1 of 20 comparisons."""
  return 2 * math.sqrt(2 / len(row['differences']))


def table(rows, one):
  """Rows and one spread in nats -> Markdown."""
  lines = ['| variant | valid nats per token | beside | difference | in spreads | verdict | tokens/s | parameters |',
           '| --- ' * 8 + '|']
  for row in rows:
    if 'failed' in row:
      lines.append(f'| {row["name"]} | failed: {row["failed"].replace("|", "/")} |' + '  |' * 6)
      continue
    difference, spreads, verdict = '', '', ''
    if row['name'] != 'baseline' and row['differences']:
      mean = statistics.mean(row['differences'])
      difference = f'{mean:+.4f}'
      if one:
        spreads = f'{mean / one:+.1f}'
        verdict = 'none seen' if abs(mean / one) <= chance(row) else 'better' if mean < 0 else 'worse'
    failures = f' ({row["failures"]} failed)' if row['failures'] else ''
    beside = '' if row['name'] == 'baseline' else row['against']
    lines.append(f'| {row["name"]} | {spread(row["valid"])}{failures} | {beside} | {difference} | {spreads} | '
                 f'{verdict} | {row["speed"]:,.0f} | {row["parameters"]:,} |')
  return '\n'.join([*lines, '', f'One spread is {one:.4f} nats.' if one else 'One seed: no spread yet.', ''])


def table_after(runs, start):
  """Runs -> Markdown: the loss of tokens that follow on a start.

  start: 'free' after observed text, the model's own samples read in between; 'cold' from the initial state on.
  """
  lines = [f'| variant | {" | ".join(f"token {n}" for n in AFTER)} | tokens/s |', '| --- ' * (len(AFTER) + 2) + '|']
  for name in VARIANTS:
    same = [run for run in runs if run['variant'] == name and start in run]
    if same:
      losses = [spread([run[start][n - 1] for run in same]) for n in AFTER]
      lines.append(f'| {name} | {" | ".join(losses)} | {statistics.median(run["speed"] for run in same):,.0f} |')
  return '\n'.join([*lines, ''])


def plot(rows, one, path):
  """Draws the differences, their standard deviations over seeds, and what chance alone would do."""
  from matplotlib import ticker
  from matplotlib.figure import Figure
  rows = [row for row in reversed(rows) if row.get('differences') and row['name'] != 'baseline']
  figure = Figure(figsize=(9, 1.5 + 0.2 * len(rows)), layout='constrained')
  axes = figure.subplots()
  places = range(len(rows))
  if one:
    for place, row in zip(places, rows, strict=True):
      axes.barh(place, 2 * chance(row) * one, left=-chance(row) * one, height=0.8, color='lightgray')
  axes.errorbar([statistics.mean(row['differences']) for row in rows], places, fmt='o', markersize=4, capsize=2,
                xerr=[statistics.stdev(row['differences']) if len(row['differences']) > 1 else 0 for row in rows])
  axes.axvline(0, color='gray', linewidth=0.8)
  names = [row['name'] + (f' (beside {row["against"]})' if row['against'] != 'baseline' else '') for row in rows]
  axes.set_yticks(places, names)
  axes.set_xscale('symlog', linthresh=0.05)  # a few are far off
  marks = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
  axes.xaxis.set_major_locator(ticker.FixedLocator([0, *marks, *(-x for x in marks)]))
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  axes.xaxis.set_major_formatter('{x:+g}')
  axes.tick_params(labelsize=8)
  axes.set(xlabel='difference in valid nats per token, less is better; gray: chance', ylim=(-0.6, len(rows) - 0.4))
  axes.grid(axis='x', alpha=0.3)
  figure.savefig(path, dpi=120)


def main():
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--jobs', type=jobs, default=2)
  parser.add_argument('--only', help='names of variants, separated by semicolons', default='')
  parser.add_argument('--out', default='ablation')
  args, flags = parser.parse_known_args()
  base = BASELINE | other_flags(parser, flags, taken=('seed', 'max_minutes', 'epochs'))
  names = args.only.split(';') if args.only else list(VARIANTS)
  if unknown := set(names) - VARIANTS.keys():
    parser.error(f'--only: no variant {"; ".join(unknown)}; expected some of {"; ".join(VARIANTS)}')
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  wanted = [{'variant': name, 'seed': seed, 'flags': arguments(name, args.corpus, args.steps, seed, base)}
            for seed in range(args.seeds) for name in VARIANTS if name in names]
  for runs in sweep(wanted, measure, out / 'runs.jsonl', args.jobs):
    text = write(runs, out)
    print(f'{len(runs)} of {len(wanted)}: seed {runs[-1]["seed"]} {runs[-1]["variant"]}: '
          f'{runs[-1].get("failed") or runs[-1]["valid"]}', file=sys.stderr)
  print(text)


def write(runs, out):
  """Runs -> OUT/table.md and OUT/plot.png. -> the tables."""
  rows, one = summarise(runs)
  text = '\n'.join([table(rows, one), table_after(runs, 'free'), table_after(runs, 'cold')])
  (out / 'table.md').write_text(text)
  plot(rows, one, out / '.plot.png')
  os.replace(out / '.plot.png', out / 'plot.png')
  return text


if __name__ == '__main__':
  main()
