"""A small run that tests share."""
import pytest

import runs
from charlm.commands import train


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
  """The text of a small run."""
  path = tmp_path_factory.mktemp('corpus') / 'times.txt'
  path.write_text(runs.TEXT)
  return str(path)


@pytest.fixture(scope='session')
def finished(cache, corpus, tmp_path_factory):
  """The workdir of a small run that was never stopped. Tests leave it as it is."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  train.run(runs.flags(corpus, workdir))
  return workdir
