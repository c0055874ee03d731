"""What runs have left in their workdirs, and whether two of them left the same."""
import json

import numpy as np

from charlm import checkpoint


def last(workdir):
  """-> arrays, state of the newest checkpoint."""
  return checkpoint.read(checkpoint.saved(workdir)[0])


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
