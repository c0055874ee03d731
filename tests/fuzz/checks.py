"""What holds of every call, whatever it was given."""
import json
import re

from charlm.workdir import checkpoint

MOST_LINES = 5  # of standard error where a command fails: warnings, and the line that says why


def check(command, outcome, before, place):
  """Asserts that a call ended as a command does, in time, with a line that says why, and left nothing half written.

  Args:
    command: the name of the command.
    outcome: its Outcome.
    before: place.contents() before the call.
    place: where it was.
  """
  err = outcome.err.decode(errors='replace')
  assert not outcome.fault, f'{outcome.fault}\n{err[-2000:]}'
  assert outcome.status in (0, 1, 2), outcome.status
  assert 'Traceback (most recent call last)' not in err, err
  if outcome.status:
    _check_failure(command, err)
  after = place.contents()
  changed = [path for path in {*before, *after} if before.get(path) != after.get(path)]
  if outcome.status == 2:
    assert not changed, f'refused, and yet it changed {[*map(str, changed)]}: {err}'
  left = place.unfinished()
  assert not left, f'half written: {[*map(str, left)]}'
  for path in changed:
    if path in after and path.suffix == '.npz':
      checkpoint.read(path)
  for version in [path.parent for path in place.folder.rglob('variables')]:
    assert (version / 'saved_model.pb').exists() and (version / 'assets.extra' / 'charlm.json').exists(), version
  if command in ('evaluate', 'score') and outcome.status == 0 and outcome.out.startswith(b'{'):
    for line in outcome.out.splitlines():
      json.loads(line, parse_constant=_no_number)


def _check_failure(command, err):
  """Asserts that standard error ends in one line that names the command, and a flag or file."""
  *others, last = [*err.split('\n')][:-1] or ['']
  assert last.startswith(f'charlm-{command}: '), err[-2000:]
  operand = '|^charlm-score: .+?: ' if command == 'score' else ''  # files that no flag names
  assert re.search(rf'--\w|/|step \d|\S+\.\w+{operand}', last), last
  assert len(others) < MOST_LINES and not any(line.startswith(f'charlm-{command}: ') for line in others), err[-2000:]


def _no_number(constant):
  raise AssertionError(f'{constant} in a report')


