"""The clock of the machine goes back while a run is at work."""
import itertools
import time

from charlm.commands import train
from charlm.workdir import checkpoint
from runs import assert_same_run, flags

DAY = 24 * 60 * 60


def test_a_clock_that_goes_back_changes_nothing(corpus, finished, tmp_path, monkeypatch):
  """By a day each time somebody looks; and time since some moment, which no one sets, goes on."""
  now, days = time.time(), itertools.count()
  monkeypatch.setattr(time, 'time', lambda: now - next(days) * DAY)
  train.run(flags(corpus, tmp_path / 'run'))
  assert next(days) > 10  # somebody has
  assert_same_run(finished, tmp_path / 'run')
  assert [path.name for path in checkpoint.saved(tmp_path / 'run')] == ['step-00000040.npz', 'step-00000036.npz']
