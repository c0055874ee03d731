"""A text is known by its digest: another of the same name, or one that has changed, is never taken for it."""
import dataclasses
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from charlm.commands import evaluate, train
from charlm.evaluation import texts
from charlm.workdir import checkpoint, layout
from data_pipeline import prepare
from data_pipeline.corpus import files
from flags.config import Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.evaluation import EvaluateConfig
from flags.places import Places
from runs import TEXT


@pytest.fixture
def project(tmp_path, monkeypatch):
  """A folder with a text in it, where a command is given."""
  folder = tmp_path / 'project'
  folder.mkdir()
  monkeypatch.chdir(folder)
  (folder / 'input.txt').write_text(TEXT)
  return folder


def trained(workdir='runs/a', **data):
  """A model as it is opened, whose run was given from here."""
  data = DataConfig(**data)
  content = prepare.open_source(data).content
  config = Config(data=data, places=Places.of(data, workdir, content))
  return SimpleNamespace(config=Config.from_json(config.to_json()), state={'text': content})


def chosen(opened, workdir='runs/a', **given):
  """-> corpus, split, whether it is the text trained on; the bytes of that split."""
  text = texts.choose(EvaluateConfig(workdir=str(workdir), **given), opened)
  split = text.source.splits['train' if text.split == 'all' else text.split]
  return text.source.config.corpus, text.split, text.trained_on, b''.join(split.blocks()).decode()


VALID = TEXT[-(len(TEXT) // 10):]


def test_another_text_of_the_same_name_is_not_taken(project, tmp_path, monkeypatch):
  opened, elsewhere = trained(corpus='input.txt'), tmp_path / 'elsewhere'
  elsewhere.mkdir()
  monkeypatch.chdir(elsewhere)
  (elsewhere / 'input.txt').write_text('of other times ' * 99)
  assert chosen(opened, project / 'runs/a') == (str(project / 'input.txt'), 'valid', True, VALID)
  named = chosen(opened, project / 'runs/a', corpus='input.txt')
  assert named == ('input.txt', 'all', False, 'of other times ' * 99)
  (project / 'input.txt').unlink()
  with pytest.raises(UserError, match=r'--workdir=.*trained on \([0-9a-f]{8}\.\.\.\), but .*project/input.txt is not '
                                      r'there, and .*elsewhere/input.txt is another text .*--corpus') as error:
    chosen(opened, project / 'runs/a')
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('change', [TEXT[1:], TEXT + 'x', TEXT.replace('best', 'BEST'), TEXT[::-1], ''],
                         ids=['shorter', 'longer', 'same length', 'other order', 'empty'])
def test_a_text_that_has_changed_is_not_taken(project, change):
  opened = trained(corpus='input.txt')
  (project / 'input.txt').write_text(change)
  for dynamic in False, True:
    with pytest.raises(UserError, match='trained on'):
      chosen(opened, dynamic=dynamic)
  if change:
    assert chosen(opened, corpus='input.txt')[1:3] == ('all', False)


def test_the_same_text_is_known_by_any_name(project, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  opened = trained(corpus='input.txt', test_fraction=0.2)
  shutil.copy('input.txt', tmp_path / 'copy.log')
  (tmp_path / 'folder').mkdir()
  shutil.copy('input.txt', tmp_path / 'folder' / 'only.txt')
  os.symlink(project / 'input.txt', tmp_path / 'link')
  valid = chosen(opened)[3]
  for name in ('input.txt', str(project / 'input.txt'), '../project/./input.txt', '~/project/input.txt',
               str(tmp_path / 'copy.log'), str(tmp_path / 'folder'), str(tmp_path / 'folder' / '*.txt'),
               str(tmp_path / 'link')):
    assert chosen(opened, corpus=name)[1:] == ('valid', True, valid)
    assert chosen(opened, corpus=name, split='test')[1:3] == ('test', True)
    assert chosen(opened, corpus=name, split='all')[3] == TEXT


def test_a_project_moves_as_a_whole(project, tmp_path, monkeypatch):
  opened = trained(corpus='input.txt')
  moved = tmp_path / 'moved'
  project.rename(moved)
  monkeypatch.chdir(tmp_path)
  assert chosen(opened, moved / 'runs/a')[:2] == (str(moved / 'input.txt'), 'valid')
  assert chosen(opened, 'moved/runs/a')[:2] == (str(moved / 'input.txt'), 'valid')
  (moved / 'runs' / 'a').mkdir(parents=True)
  os.symlink(moved / 'runs' / 'a', tmp_path / 'newest')
  assert chosen(opened, 'newest')[:2] == (str(moved / 'input.txt'), 'valid')
  project.mkdir()
  (project / 'input.txt').write_text('there is another where it was')
  assert chosen(opened, moved / 'runs/a')[:2] == (str(moved / 'input.txt'), 'valid')


@pytest.mark.parametrize('spec', ['texts', 'texts/*.txt', 'texts/**/*.txt', './texts/../texts', 'pack.txt.gz'])
def test_folders_globs_and_packed_files_are_found_from_elsewhere(project, tmp_path, monkeypatch, spec):
  import gzip
  here = project / 'a[1]'  # a name that a glob would read otherwise
  (here / 'texts').mkdir(parents=True)
  monkeypatch.chdir(here)
  for name in 'a', 'b':
    (here / 'texts' / f'{name}.txt').write_text(name + TEXT)
  (here / 'pack.txt.gz').write_bytes(gzip.compress(TEXT.encode()))
  opened = trained(corpus=spec, document_reset=spec == 'texts')
  expected = chosen(opened)[1:]
  monkeypatch.chdir(tmp_path)
  assert chosen(opened, here / 'runs/a')[1:] == expected
  (here / 'texts' / 'c.txt').write_text('more')
  if 'texts' in spec:
    with pytest.raises(UserError, match='is another text'):
      chosen(opened, here / 'runs/a')


def test_documents_are_part_of_the_text(project):
  """The same bytes with other documents are another text."""
  os.mkdir('two')
  for name, half in ('1', TEXT[:999] + '\n'), ('2', TEXT[999:]):
    (project / 'two' / name).write_text(half)
  (project / 'one').write_text(TEXT[:999] + '\n' + TEXT[999:])
  assert chosen(trained(corpus='two'), corpus='one')[2]
  assert not chosen(trained(corpus='two', document_reset=True), corpus='one')[2]


def test_another_python_has_another_language_reference(project, monkeypatch):
  opened = trained(corpus='pydoc')
  assert chosen(opened)[:3] == chosen(opened, corpus='pydoc')[:3] == ('pydoc', 'valid', True)
  monkeypatch.setattr(files, '_pydoc_topics', lambda: iter([b'a newer one']))
  with pytest.raises(UserError, match='pydoc is another text in this Python, 3'):
    chosen(opened)
  assert chosen(opened, corpus='pydoc')[:3] == ('pydoc', 'all', False)
  (project / 'pydoc').write_text('a file of that name')
  assert chosen(opened, corpus='./pydoc')[:3] == ('./pydoc', 'all', False)


def test_a_folder_that_has_been_removed_is_no_matter(project, tmp_path, monkeypatch):
  opened, gone = trained(corpus='input.txt'), tmp_path / 'gone'
  gone.mkdir()
  monkeypatch.chdir(gone)
  gone.rmdir()
  assert chosen(opened, project / 'runs/a')[:2] == (str(project / 'input.txt'), 'valid')
  with pytest.raises(UserError, match='no such file'):
    chosen(opened, project / 'runs/a', corpus='input.txt')


@pytest.mark.parametrize('places', [[], None, 3, {'corpus': 5}, {'corpus': None}, {'another': ''}, {'corpus': '/a\0b'}])
def test_places_that_are_damaged_are_refused(places):
  groups = json.loads(Config().to_json()) | {'places': places}
  with pytest.raises(UserError):
    Config.from_json(json.dumps(groups))


@pytest.mark.parametrize('place', ['', '~nobody/x', '/proc/self/mem', '/dev/null', '[', '*'])
def test_places_that_lead_nowhere_are_told_of_in_one_line(project, place):
  opened = trained(corpus='input.txt')
  (project / 'input.txt').unlink()
  opened.config = dataclasses.replace(opened.config, places=Places(
      content=opened.state['text'], corpus=place, workdir=place, data_dir=place, cache_dir=place))
  with pytest.raises(UserError, match='trained on'):
    chosen(opened)


def test_a_configuration_without_places_goes_by_its_corpus(project, tmp_path, monkeypatch):
  opened = trained(corpus='input.txt')
  opened.config = dataclasses.replace(opened.config, places=Places())
  assert chosen(opened)[:2] == (str(project / 'input.txt'), 'valid')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match='is not there'):
    chosen(opened)
  assert chosen(opened, corpus='project/input.txt')[:3] == ('project/input.txt', 'valid', True)


def test_a_cache_is_where_it_was_or_moves_along(project, tmp_path, monkeypatch):
  """One that is gone with all above it gives way to the default."""
  data, cache = DataConfig(corpus='input.txt', cache_dir='cache'), project / 'cache'
  places = Places.of(data, 'runs/a', '')
  monkeypatch.chdir(tmp_path)
  assert places.candidates(data, project / 'runs/a')[0].cache_dir == str(cache)
  project.rename(tmp_path / 'moved')
  assert places.candidates(data, tmp_path / 'moved/runs/a')[0].cache_dir == str(tmp_path / 'moved' / 'cache')
  assert places.candidates(data, tmp_path / 'away/from/here')[0].cache_dir == ''


def test_the_commands_find_the_text_wherever_they_are_given(finished, corpus, tmp_path, monkeypatch, capsys):
  """The run itself goes on from anywhere, and says where its text is; a text that has changed ends in one line."""
  places = layout.read_config(finished).places
  assert (places.corpus, places.workdir) == (corpus, str(finished))
  assert places.content == checkpoint.read(checkpoint.saved(finished)[0])[1]['text']
  folder = tmp_path / 'moved'
  shutil.copytree(finished, folder / 'run')
  shutil.copy(corpus, folder / 'times.txt')
  config = json.loads((folder / 'run' / 'config.json').read_text())
  config['data']['corpus'] = 'times.txt'
  config['places'] |= {'corpus': '/gone/times.txt', 'workdir': '/gone/run'}
  (folder / 'run' / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'times.txt').write_text('of other times')
  monkeypatch.chdir(tmp_path)
  train.run(['charlm-train', '--workdir=moved/run'])
  assert 'Trained for 40 steps' in capsys.readouterr().out
  assert layout.read_config(folder / 'run').places.corpus == str(folder / 'times.txt')
  assert layout.read_config(folder / 'run').data.corpus == 'times.txt'
  (folder / 'times.txt').write_text(TEXT + '.')
  for run in train.run, evaluate.run:
    with pytest.raises(SystemExit) as exit_:
      run(['charlm', f'--workdir={folder / "run"}'])
    told = capsys.readouterr().err
    assert exit_.value.code == 2 and told.count('\n') == 1 and 'is another text' in told and '--corpus' in told
