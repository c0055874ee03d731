"""Random flags and damaged files of every kind: each command ends as a command does (see `checks.check`)."""
import os
import shlex

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from fuzz.checks import check
from fuzz.kinds import KINDS, MENDED

SHORT = 2  # examples of each kind, with the tests that are not slow
ASKED = int(os.environ.get('FUZZ', '0'))  # examples of each kind, drawn anew each time


def explore(kind, stage, summary, examples):
  """Tries so many examples of a kind; `summary` takes in their outcomes."""
  phases = (Phase.generate, Phase.shrink) if ASKED else (Phase.generate,)

  @settings(max_examples=examples, derandomize=not ASKED, database=None, deadline=None, phases=phases, print_blob=True,
            suppress_health_check=[*HealthCheck])
  @given(st.data())
  def one(data):
    with stage.place() as place:
      call = KINDS[kind](data.draw, place)
      before = place.contents()
      note(f'charlm-{call.command} {shlex.join(call.arguments)}')
      outcome = stage.worker.call(f'charlm.commands.{call.command}', call.arguments, place.folder, call.stdin)
      summary.add(outcome)
      check(call.command, outcome, before, place)
      assert call.out in (None, outcome.out), 'another result than of sound files'

  one()


@pytest.mark.parametrize('kind', KINDS)
def test_short(kind, stage, summary):
  explore(kind, stage, summary, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_long(kind, stage, summary):
  explore(kind, stage, summary, ASKED or 100)
  refused = summary.statuses[1] + summary.statuses[2]
  assert summary.statuses[0] and (refused or kind in MENDED), f'one-sided: {summary.statuses}'
