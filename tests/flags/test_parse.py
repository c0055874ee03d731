"""Flags follow the dataclasses; a mistake is named in one line."""
import dataclasses
import sys

import pytest

from flags import parse
from flags.data import DataConfig
from flags.errors import UserError
from flags.network import ModelConfig
from flags.run import PRESETS, RunConfig
from flags.training import TrainConfig

GROUPS = (RunConfig, DataConfig, ModelConfig, TrainConfig)


def parsed(*arguments):
  return parse.parse(['charlm-train', *arguments], GROUPS)


def test_only_what_was_given():
  assert parsed('--workdir=w', '--units', '7', '--learning_rate=1') == {
      'workdir': 'w', 'units': 7, 'learning_rate': 1.0}
  assert parsed() == {}


@pytest.mark.parametrize('arguments,words', [
    (['--unit=7'], ['--unit', 'Did you mean --units?']),
    (['--zzz'], ['--zzz', '--help']),
    (['--units=many'], ['--units=many', 'an integer']),
    (['--dropout=much'], ['--dropout=much', 'a number']),
    (['--units'], ['--units: expected an integer']),
    (['-units'], ['--units: expected an integer']),
    (['--workdir'], ['--workdir: expected text']),
    (['units=7'], ['units=7', 'flags only']),
    (['--preset=zzz'], ['--preset=zzz', 'expected one of', 'demo']),
    (['--flagfile=/no/such/file'], ['/no/such/file']),
    (['--flagfile'], ['--flagfile', 'expected a file']),
    ([f'--flagfile={sys.executable}'], ['--flagfile', 'text file']),
])
def test_mistakes_are_named(arguments, words):
  with pytest.raises(UserError) as error:
    parsed(*arguments)
  assert all(word in str(error.value) for word in words), str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('arguments, flags, files', [
  (['--units=7', 'a.txt', '-'], {'units': 7}, ['a.txt', '-']), (['a', '--units', '7', 'b'], {'units': 7}, ['a', 'b']),
  (['--profile', 'a', '--', '--units=3'], {'profile': True}, ['a', '--units=3']), ([], {}, []),
  (['~/a', 'b~'], {}, ['/home/me/a', 'b~'])])
def test_operands_stand_anywhere(monkeypatch, arguments, flags, files):
  monkeypatch.setenv('HOME', '/home/me')
  assert parse.parse(['charlm-score', *arguments], GROUPS, 'files') == {**flags, 'files': files}


@pytest.mark.parametrize('arguments, words', [
  (['gs://a/b'], 'gs://a/b: gs:// is not supported'), (['a' * 300], 'a: expected a path that can exist'),
  (['a', '--units=1', 'b', '--units=2'], '--units=1 --units=2: given twice'), (['a', '--unit=7'], '--unit')])
def test_mistakes_among_operands_are_named(arguments, words):
  with pytest.raises(UserError, match=words):
    parse.parse(['charlm-score', *arguments], GROUPS, 'files')


@pytest.mark.parametrize('name', PRESETS)
def test_presets_are_whole_configurations(name):
  given = parsed(f'--preset={name}')
  assert given.pop('preset') == name
  for group in GROUPS[1:]:
    fields = [f.name for f in dataclasses.fields(group)]
    group(**{k: v for k, v in given.items() if k in fields})


def test_flags_beside_a_preset_win():
  assert parsed('--units=3', '--preset=demo')['units'] == 3


def test_a_curriculum_beside_a_preset_replaces_its_chunk_length():
  assert 'chunk_length' in parsed('--preset=shakespeare')
  assert 'chunk_length' not in parsed('--preset=shakespeare', '--chunk_curriculum=32,64')
  assert parsed('--preset=shakespeare', '--chunk_curriculum=32,64', '--chunk_length=5')['chunk_length'] == 5


def test_a_preset_in_any_spelling(tmp_path):
  (tmp_path / 'mine.flags').write_text('--preset=demo\n')
  wanted = parsed('--preset=demo')
  assert wanted['max_minutes'] == 2
  assert parsed('--preset', 'demo') == parsed('-preset=demo') == parsed(f'--flagfile={tmp_path}/mine.flags') == wanted


def test_flagfile(tmp_path):
  (tmp_path / 'mine.flags').write_text('# a comment\n--units=5\n--layers=3\n')
  assert parsed(f'--flagfile={tmp_path}/mine.flags', '--layers=1') == {'units': 5, 'layers': 1}
