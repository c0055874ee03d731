"""A folder of an export appears whole or not at all, and none is written over."""
import os

import pytest

from charlm.serving import portable
from flags.errors import RunError, UserError


def fill(folder, failure=None):
  with portable.new_folder(str(folder)) as inside:
    (inside / 'model').write_text('model')
    if failure:
      raise failure


def test_a_new_folder_is_made_with_those_above_it(tmp_path, monkeypatch):
  fill(tmp_path / 'a' / 'b')
  monkeypatch.chdir(tmp_path / 'a')
  fill('c/')
  found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*'))
  assert found == ['a', 'a/b', 'a/b/model', 'a/c', 'a/c/model']
  assert (tmp_path / 'a' / 'c').stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize('kind', ['folder', 'full', 'file', 'link', 'here', 'root'])
def test_what_is_there_stays(tmp_path, monkeypatch, kind):
  target = tmp_path / 'there'
  if kind in ('folder', 'full'):
    target.mkdir()
  if kind in ('full', 'file'):
    (target / 'own' if kind == 'full' else target).write_text('own')
  if kind == 'link':
    target.symlink_to('nowhere')
  monkeypatch.chdir(tmp_path)
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(UserError, match='is there already; expected a new folder'):
    fill({'here': '.', 'root': '/'}.get(kind, target))
  assert sorted(tmp_path.rglob('*')) == before


def test_one_that_appears_meanwhile_stays(tmp_path):
  with pytest.raises(UserError, match='is there already'), portable.new_folder(str(tmp_path / 'to')) as inside:
    (inside / 'model').touch()
    (tmp_path / 'to').mkdir()
    (tmp_path / 'to' / 'own').touch()
  assert [p.name for p in tmp_path.glob('**/*')] == ['to', 'own']


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match=r'--export_dir=.*file/to: expected a folder that can be made'):
    fill(tmp_path / 'file' / 'to')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=r'--export_dir=n/n/.*File name too long'):
    fill('n/' * 2000 + 'n')
  monkeypatch.setattr(os, 'access', lambda path, mode: False)
  with pytest.raises(UserError, match=r'--export_dir=.*Permission denied'):
    fill(tmp_path / 'to')
  assert [p.name for p in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('failure, raised', [(OSError(28, 'No space left on device'), RunError),
                                             (KeyboardInterrupt(), KeyboardInterrupt)])
def test_nothing_is_left_of_an_export_that_fails(tmp_path, failure, raised):
  with pytest.raises(raised):
    fill(tmp_path / 'to', failure)
  assert not list(tmp_path.iterdir())
