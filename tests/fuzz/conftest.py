"""The worker and its models, shared by all kinds; and the table at the end."""
import collections
import dataclasses

import pytest

from fuzz.place import Stage
from fuzz.process import Worker


@dataclasses.dataclass
class Summary:
  """What came of the examples of a kind."""
  statuses: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  seconds: float = 0.0
  slowest: float = 0.0
  grown: int = 0  # bytes, the most that a call added to the memory

  def add(self, outcome):
    self.statuses[outcome.status] += 1
    self.seconds += outcome.seconds
    self.slowest = max(self.slowest, outcome.seconds)
    self.grown = max(self.grown, outcome.grown)


@pytest.fixture(scope='session')
def stage(tmp_path_factory):
  with Worker(tmp_path_factory.mktemp('fuzz')) as worker:
    yield Stage(worker)


@pytest.fixture
def summary(request, kind):
  found = Summary()
  yield found
  request.node.user_properties.append(('fuzz', [kind, sum(found.statuses.values()), found.seconds, *(
      found.statuses[status] for status in (0, 1, 2)), found.slowest, found.grown]))


def pytest_terminal_summary(terminalreporter):
  rows = [value for report in terminalreporter.getreports('') if report.when == 'teardown'
          for name, value in report.user_properties if name == 'fuzz']
  if rows:
    terminalreporter.section('fuzz')
    terminalreporter.line(f'{"kind":24} {"examples":>8} {"seconds":>8} {"exit 0":>6} {"1":>6} {"2":>6} {"slowest":>8} '
                          f'{"memory":>8}')
  for kind, count, seconds, zero, one, two, slowest, grown in rows:
    terminalreporter.line(f'{kind:24} {count:8} {seconds:8.0f} {zero:6} {one:6} {two:6} {slowest:6.1f} s '
                          f'{grown / 2**20:5.0f} MB')
