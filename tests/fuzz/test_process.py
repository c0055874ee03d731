"""What no command may do is noticed, and the worker is there for the next call."""
import pathlib

import pytest

from fuzz import process
from fuzz.checks import check
from fuzz.place import Place


class Stage:
  """Stands for the stage: no models."""

  def __init__(self, folder):
    self.worker, self.folder = process.Worker(folder), folder
    (folder / 'text.txt').touch()


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  stage, folder = Stage(tmp_path_factory.mktemp('worker')), tmp_path_factory.mktemp('place')
  with stage.worker:
    yield Place(stage, folder)


def call(place, fault, text=''):
  (place.folder / 'written').unlink(missing_ok=True)
  return place.stage.worker.call('fuzz.misbehaving', [fault, text], place.folder, b'typed')


@pytest.mark.parametrize('fault,words', [('hang', 'more than 1 s'), ('grow', 'MB of memory'), ('die', 'ended with -9'),
                                         ('raise', 'ZeroDivisionError')])
def test_a_fault_is_noticed_and_the_next_call_is_sound(place, fault, words, monkeypatch):
  monkeypatch.setattr(process, 'BYTES', 1 << 27)
  monkeypatch.setattr(process, 'SECONDS', 1 if fault == 'hang' else 60)
  outcome = call(place, fault)
  assert outcome.status is None and words in outcome.fault
  with pytest.raises(AssertionError, match=words):
    check('misbehaving', outcome, place.contents(), place)
  outcome = call(place, '0', 'said')
  assert (outcome.status, outcome.fault, outcome.out, outcome.err) == (0, '', b'typed\n', b'said\n')
  check('misbehaving', outcome, place.contents(), place)


@pytest.mark.parametrize('status,text', [
    ('3', 'charlm-misbehaving: --a=b: expected c'), ('2', 'oh --a=b'), ('1', ''), ('2', 'charlm-misbehaving: no'),
    ('2', 'charlm-misbehaving: --a=b:\nexpected c'),
    ('1', 'Traceback (most recent call last)\ncharlm-misbehaving: --a=b: expected c'),
    ('1', 'warning: a\n' * 9 + 'charlm-misbehaving: --a=b: expected c')])
def test_what_no_command_may_say_is_noticed(place, status, text):
  outcome = call(place, status, text)
  assert not outcome.fault
  with pytest.raises(AssertionError):
    check('misbehaving', outcome, place.contents(), place)


def test_what_a_refused_command_writes_is_noticed(place):
  said = 'charlm-misbehaving: --a=b: expected c'
  outcome = call(place, '2', said)
  check('misbehaving', outcome, place.contents(), place)
  for path, words in [('written', 'refused, and yet'), ('.best.npz.x.tmp', 'half written')]:
    before = {name: digest for name, digest in place.contents().items() if name.name != path or path[0] == '.'}
    (place.folder / path).touch()
    with pytest.raises(AssertionError, match=words):
      check('misbehaving', outcome, place.contents() if path[0] == '.' else before, place)
    pathlib.Path(place.folder, path).unlink()
