"""Runs that are killed, whenever and however often, end in the bits of one that was not, and leave nothing more."""
import itertools
import os
import shutil

import pytest

from charlm.workdir import checkpoint
from runs import SMALL, assert_same_run, beside
from soak.zygote import MARKS, SAMPLE

KILLS = int(os.environ.get('SOAK') or 10)  # of the long tests
STEPS = 500  # for each kill of the long run, in the mean
TINY = ['--units=8', '--embedding_size=4', '--input_units=4', '--batch_size=2', '--chunk_length=8', '--chunk_overlap=0',
        '--save_every=10', '--report_every=100', '--eval_every=0', '--sample_every=0', '--dropout=0', '--zoneout=0']
KILLED = -9
GROWTH_KB = 4096  # of memory, that is none


def arguments(corpus, workdir, *others):
  """Of a run with a cache of its own, so that a kill may meet the text being prepared."""
  return beside(others, [f'--corpus={corpus}', f'--workdir={workdir}', f'--cache_dir={workdir}.cache', *SMALL])


def names(workdir):
  """What there is of a run, however it came about: its files, less TensorBoard's, whose names say when."""
  return sorted(str(path.relative_to(workdir)) for path in workdir.rglob('*') if 'tensorboard' not in path.parts)


def same(whole, workdir):
  assert_same_run(whole, workdir)
  assert names(whole) == names(workdir)
  assert len([*(workdir / 'tensorboard').iterdir()]) == 1


def moments(chance, whole):
  """One in each phase, in an order in which a run that goes on comes to all. whole: of a run that was not killed."""
  middle = [phase for phase in MARKS if phase not in ('start', 'end')]
  for phase in 'start', *chance.sample(middle, len(middle)), 'end':
    yield phase, chance.randint(1, max(1, whole['counts'][phase] // 4)), chance.uniform(0, whole['seconds'][phase])


@pytest.mark.parametrize('kills', [pytest.param(n, marks=pytest.mark.slow) for n in (2, KILLS)])
def test_killed_at_any_moment_it_ends_in_the_same_bits(zygote, chance, corpus, tmp_path, report, kills):
  """Each run is killed in all phases (the short form: in two), one after the other, and goes on each time."""
  whole, killed = tmp_path / 'whole', dict.fromkeys(MARKS, 0)
  once, parts = zygote.run(arguments(corpus, whole)), tmp_path / 'parts'
  while sum(killed.values()) < kills:
    for phase, count, delay in itertools.islice(moments(chance, once), kills):
      print(phase, count, delay)
      killed[phase] += zygote.run(arguments(corpus, parts), phase, count, delay)['status'] == KILLED
    assert zygote.run(arguments(corpus, parts))['status'] == 0
    same(whole, parts)
    for path in tmp_path.glob('parts*'):
      shutil.rmtree(path)
  assert all(killed.values()) or kills < KILLS
  by_phase = ', '.join(f'{name} {number}' for name, number in killed.items())
  report(f'SIGKILL at {sum(killed.values())} random moments', f'all went on to the same bits ({by_phase})')


def flat(samples, steps):
  """-> the kilobytes that a run has grown by, after its first tenth."""
  settled = samples[steps // SAMPLE // 10:]
  return max(settled) - settled[0]


@pytest.mark.parametrize('kills, steps', [(2, SAMPLE), pytest.param(KILLS, KILLS * STEPS, marks=pytest.mark.slow)])
def test_many_steps_and_kills_leave_no_more_than_one_run(zygote, chance, corpus, tmp_path, report, kills, steps):
  """With a checkpoint each ten steps."""
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  given, done, most = [*TINY, f'--steps={steps}'], 0, 0
  once = zygote.run(arguments(corpus, whole, *given))
  grown = flat(once['anonymous'], steps)
  assert grown < GROWTH_KB, once['anonymous']
  for left in range(kills, 0, -1):
    found = checkpoint.newest(parts)
    ahead = steps - (found[1]['step'] if found else 0)
    count = chance.randint(1, min(2 * ahead // (left + 1), ahead - 1))
    found = zygote.run(arguments(corpus, parts, *given), 'step', count, chance.uniform(0, 0.01))
    assert found['status'] == KILLED
    done += count
    files = [*(parts / 'checkpoints').glob('*')]
    assert len(files) <= checkpoint.KEEP + 2, files  # one being written, one to be removed
    most = max(most, sum(path.stat().st_size for path in files))
  assert zygote.run(arguments(corpus, parts, *given))['status'] == 0
  same(whole, parts)
  own = sum(path.stat().st_size for path in (whole / 'checkpoints').iterdir())
  assert most <= 2 * own
  report(f'{steps:,} steps, a checkpoint each ten, {kills} kills in {done:,} steps',
         f'the same bits and files; memory grew by {grown} kB after the first tenth; checkpoints/ had at most '
         f'{most / own:.1f} times the bytes that it has at the end')
