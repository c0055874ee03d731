"""A small run for tests: its command; what runs have left in their workdirs, and whether two of them left the same."""
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from charlm.commands import train
from charlm.workdir import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
TEXT = 'It was the best of times, it was the worst of times. ' * 60
SMALL = ['--layers=1', '--units=12', '--embedding_size=8', '--input_units=8', '--batch_size=4', '--chunk_length=16',
         '--steps=40', '--report_every=5', '--eval_every=10', '--save_every=6', '--sample_every=20', '--dropout=0.1',
         '--zoneout=0.1', '--chunk_overlap=3']
CURRICULUM = ['--layers=2', '--chunk_length=100', '--chunk_curriculum=8,16']
EMA = ['--schedule=linear', '--average=ema', '--ema_decay=0.9', '--weight_decay=0.1', '--learning_rate=0.02']


def beside(others, flags_):
  """`others`, after those of `flags_` that they do not give anew."""
  given = {flag.lstrip('-').partition('=')[0] for flag in others}
  return [*(flag for flag in flags_ if flag.lstrip('-').partition('=')[0] not in given), *others]


def flags(corpus, workdir, *others):
  return ['charlm-train', *beside(others, [f'--corpus={corpus}', f'--workdir={workdir}', *SMALL])]


def start(corpus, workdir, *others):
  """The same command as a process of its own."""
  command = [sys.executable, '-m', 'charlm.commands.train', *flags(corpus, workdir, *others)[1:]]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


ACCOUNT = r'[\d,]+ (file|topic|example)s?, [\d.,]+ (bytes?|kB|MB) of text(;|$)'  # which text was read


def without_account(err):
  """Standard error, less the lines that say which text was read."""
  return ''.join(line for line in err.splitlines(keepends=True) if not re.match(ACCOUNT, line))


def complaint(err):
  """The one line of standard error that says something else than which text was read."""
  line, = without_account(err).splitlines()
  return line


def told(capsys):
  """The lines of standard error."""
  return capsys.readouterr().err.splitlines()


def refused(arguments, capsys, status=2):
  """-> the last line that a command says which fails with this status."""
  with pytest.raises(SystemExit) as exit_:
    train.run(arguments)
  assert exit_.value.code == status
  return told(capsys)[-1]


def last(workdir):
  """-> arrays, state of the newest checkpoint."""
  return checkpoint.read(checkpoint.saved(workdir)[0])


def raw_and_used(workdir):
  """-> the weights that the newest checkpoint trains, those that a model reads with: lists of arrays, by name."""
  arrays = last(workdir)[0]
  return [[arrays[n] for n in sorted(arrays) if n.startswith(kind)] for kind in ('training/', 'model/')]


def metrics(workdir):
  """The lines of metrics.jsonl, without what the clock says."""
  timing = {'seconds', 'tokens_per_second'}
  return [{k: v for k, v in json.loads(line).items() if k not in timing}
          for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def assert_same_run(one, other):
  """Last and best checkpoints are the same bit for bit, and all that was reported."""
  pairs = [(checkpoint.saved(one)[0], checkpoint.saved(other)[0])]
  pairs += [(checkpoint.best_path(one), checkpoint.best_path(other))] if checkpoint.best_path(one).exists() else []
  for a, b in pairs:
    (a, _), (b, _) = checkpoint.read(a), checkpoint.read(b)
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)
  assert checkpoint.best_path(other).exists() == (len(pairs) == 2)
  assert metrics(one) == metrics(other)
