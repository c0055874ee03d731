"""Files and folders appear whole or not at all, and reach the disk before their name does."""
import os
import stat

import pytest

from data_pipeline import atomic


@pytest.fixture
def calls(monkeypatch):
  """What is synced and renamed, in order: ('fsync', path) and ('replace' or 'rename', from, to)."""
  found = []

  def watch(name, describe):
    function = getattr(os, name)

    def watched(*args, src_dir_fd=None, dst_dir_fd=None):
      inside = {} if src_dir_fd is None else {'src_dir_fd': src_dir_fd, 'dst_dir_fd': dst_dir_fd}
      folders = [os.readlink(f'/proc/self/fd/{handle}') for handle in inside.values()] or [''] * len(args)
      found.append((name, *(os.path.join(*pair) for pair in zip(folders, describe(*args), strict=True))))
      return function(*args, **inside)
    monkeypatch.setattr(os, name, watched)

  watch('fsync', lambda handle: [os.readlink(f'/proc/self/fd/{handle}')])
  watch('replace', lambda *paths: map(str, paths))
  watch('rename', lambda *paths: map(str, paths))
  return found


@pytest.fixture
def umask():
  """A person who lets nobody else read."""
  before = os.umask(0o077)
  yield
  os.umask(before)


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def permissions(path):
  return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_or_replaced(tmp_path, umask):
  for data in b'first', b'', b'second':
    atomic.write(tmp_path / 'a', data)
    assert (tmp_path / 'a').read_bytes() == data
  assert names(tmp_path) == ['a'] and permissions(tmp_path / 'a') == 0o644


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize('before', [None, b'old'])
def test_a_file_whose_body_fails_stays_as_it_was(tmp_path, calls, error, before):
  if before is not None:
    (tmp_path / 'a').write_bytes(before)
  with pytest.raises(error), atomic.file(tmp_path / 'a') as opened:
    opened.write(b'half')
    opened.flush()
    assert names(tmp_path) != [] and ((tmp_path / 'a').read_bytes() if before else None) == before
    raise error
  assert names(tmp_path) == ([] if before is None else ['a'])
  assert before is None or (tmp_path / 'a').read_bytes() == before
  assert calls == []


def test_a_temporary_file_is_hidden_and_beside_its_place(tmp_path):
  with atomic.file(tmp_path / 'a'):
    name, = names(tmp_path)
    assert name.startswith('.a.') and name.endswith('.tmp')


def test_a_file_is_on_the_disk_before_its_name_and_its_folder_after(tmp_path, calls):
  atomic.write(tmp_path / 'a', b'data')
  temporary = calls[0][1]
  assert os.path.dirname(temporary) == str(tmp_path)
  assert calls == [('fsync', temporary), ('replace', temporary, str(tmp_path / 'a')), ('fsync', str(tmp_path))]


def test_a_file_where_a_folder_is(tmp_path):
  (tmp_path / 'a').mkdir()
  with pytest.raises(OSError):
    atomic.write(tmp_path / 'a', b'data')
  assert names(tmp_path) == ['a'] and names(tmp_path / 'a') == []


def test_a_file_in_no_folder(tmp_path):
  with pytest.raises(FileNotFoundError):
    atomic.write(tmp_path / 'none' / 'a', b'data')


def test_a_file_that_cannot_reach_the_disk_leaves_nothing(tmp_path, monkeypatch):
  def full(handle):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='No space'):
    atomic.write(tmp_path / 'a', b'data')
  with pytest.raises(OSError, match='No space'), atomic.folder(tmp_path / 'b') as folder:
    (folder / 'c').write_bytes(b'data')
  assert names(tmp_path) == []


def fill(folder):
  (folder / 'sub').mkdir()
  (folder / 'a').write_bytes(b'one')
  (folder / 'sub' / 'b').write_bytes(b'two')


@pytest.mark.parametrize('exists', [False, True])
def test_a_folder_appears_whole(tmp_path, umask, exists):
  if exists:
    (tmp_path / 'f').mkdir()
  with atomic.folder(tmp_path / 'f') as folder:
    fill(folder)
    assert folder.name.startswith('.f.') and folder.name.endswith('.tmp')
    assert names(tmp_path) == [folder.name, *['f'] * exists]
    assert not exists or names(tmp_path / 'f') == []
  assert names(tmp_path) == ['f'] and names(tmp_path / 'f') == ['a', 'sub']
  assert (tmp_path / 'f' / 'sub' / 'b').read_bytes() == b'two'
  assert permissions(tmp_path / 'f') == 0o755


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_folder_whose_body_fails_leaves_nothing(tmp_path, calls, error):
  with pytest.raises(error), atomic.folder(tmp_path / 'f') as folder:
    fill(folder)
    raise error
  assert names(tmp_path) == [] and calls == []


def test_what_is_in_a_folder_is_on_the_disk_before_its_name_and_what_holds_it_after(tmp_path, calls):
  with atomic.folder(tmp_path / 'f') as folder:
    fill(folder)
  *inside, whole, rename, above = calls
  assert sorted(inside) == [('fsync', str(folder / name)) for name in ('a', 'sub', 'sub/b')]
  assert whole == ('fsync', str(folder))
  assert rename == ('rename', str(folder), str(tmp_path / 'f'))
  assert above == ('fsync', str(tmp_path))


@pytest.mark.parametrize('kind', ['folder', 'file'])
def test_a_folder_whose_name_is_taken(tmp_path, kind):
  if kind == 'folder':
    (tmp_path / 'f').mkdir()
    (tmp_path / 'f' / 'old').write_bytes(b'old')
  else:
    (tmp_path / 'f').write_bytes(b'old')
  with pytest.raises(OSError), atomic.folder(tmp_path / 'f') as folder:
    fill(folder)
  assert names(tmp_path) == ['f']
  assert (tmp_path / 'f' / 'old' if kind == 'folder' else tmp_path / 'f').read_bytes() == b'old'


def test_folders_are_made_with_those_above_them(tmp_path):
  for _ in range(2):
    atomic.make_folder(tmp_path / 'a' / 'b')
  assert (tmp_path / 'a' / 'b').is_dir()


def test_the_name_of_a_new_folder_reaches_the_disk(tmp_path, calls):
  atomic.make_folder(tmp_path / 'a' / 'b')
  assert calls == [('fsync', str(tmp_path)), ('fsync', str(tmp_path / 'a'))]
  atomic.make_folder(tmp_path / 'a' / 'b')
  assert len(calls) == 2
  with pytest.raises(FileNotFoundError):
    atomic.make_folder(tmp_path / 'c' / 'd', parents=False)
  assert names(tmp_path) == ['a'] and len(calls) == 2


def test_more_folders_than_can_be_made_are_an_error_of_the_system(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(OSError, match='File name too long'):
    atomic.make_folder('n/' * 2000)
  assert not list(tmp_path.iterdir())
