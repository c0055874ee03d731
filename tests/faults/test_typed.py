"""Paths, texts and files of flags mean what was typed, in all commands, and are printed so that they can be pasted."""
import dataclasses
import os
import pwd
import subprocess
import sys

import pytest

from all_flags import COMMANDS, FIELDS
from charlm.generation import keyboard, prompts
from charlm.training import summary
from data_pipeline.prepare import cache_root
from flags import typed
from flags.config import Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.generation import SampleConfig
from flags.parse import parse
from flags.run import RunConfig

PATHS = [(group, f) for group, f in FIELDS if 'path' in f.metadata]
TEXTS = [(group, f) for group, f in FIELDS if 'escapes' in f.metadata]
WORDS = {'preset', 'text_feature', 'optimizer', 'optimizer_constants', 'chunk_curriculum', 'server', 'model',
         'tpu', 'runner'}
named = {'ids': lambda value: getattr(value, 'name', getattr(value, '__name__', str(value)))}


def given(group, f, value):
  return parse(['charlm-x', f'--{f.name}={value}'], (group,))[f.name]


@pytest.fixture
def no_home(monkeypatch):
  """Neither HOME nor a passwd entry."""
  def unknown(uid):
    raise KeyError(uid)

  monkeypatch.delenv('HOME', raising=False)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setattr(pwd, 'getpwuid', unknown)


def test_each_flag_says_what_kind_of_text_it_is():
  kinds = {'path', 'escapes', 'choices'}
  assert {f.name for _, f in FIELDS if f.type is str and not f.metadata.keys() & kinds} <= WORDS


@pytest.mark.parametrize('group, f', PATHS, **named)
def test_a_path_may_begin_with_a_home_folder(group, f, monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert given(group, f, '~/a b') == '/home/me/a b'
  assert given(group, f, '~') == '/home/me'
  assert given(group, f, '~root/x') == pwd.getpwnam('root').pw_dir + '/x'
  assert given(group, f, './~/x') == './~/x'
  assert given(group, f, 'a~/x') == 'a~/x'


@pytest.mark.parametrize('group, f', PATHS, **named)
def test_a_path_without_a_home_folder_is_refused(group, f, no_home):
  for value in ('~', '~/x', '~no-such-user/x'):
    with pytest.raises(UserError, match=f'^--{f.name}={value}: there is no .*; expected a path without ~'):
      given(group, f, value)


def test_an_empty_home_is_none(monkeypatch):
  monkeypatch.setenv('HOME', '')
  with pytest.raises(UserError, match='HOME is not set'):
    typed.path('workdir', '~/x')


def test_the_cache_without_a_home_folder_needs_a_flag(no_home, tmp_path):
  with pytest.raises(UserError, match=r'^--cache_dir: expected a folder'):
    cache_root()
  assert cache_root(tmp_path) == tmp_path


@pytest.mark.parametrize('group, f', PATHS, **named)
@pytest.mark.parametrize('value', ['a' * 300, 'a/' * 3000, 'a\0b'])
def test_a_path_that_cannot_exist_is_refused(group, f, value):
  with pytest.raises(UserError, match=f'^--{f.name}=.*: expected a path'):
    given(group, f, value)


@pytest.mark.parametrize('group, f', TEXTS, **named)
def test_a_text_may_have_escapes(group, f):
  meant = 'a\nb\tc\rd\\n\\d\\'
  assert given(group, f, r'a\nb\tc\rd\\n\d\\') == (meant if f.type is str else (meant,))


@pytest.mark.parametrize('text', ['\n\n', '\\n', 'a\\\\\n', '\r\n', '\\d', 'Ж'])
def test_escapes_are_kept_in_a_saved_configuration(text):
  assert typed.unescaped(typed.escaped(text)) == text
  config = Config(data=DataConfig(document_reset=True, document_separator=text))
  assert Config.from_json(config.to_json()) == config


def test_a_configuration_has_its_texts_as_they_are_typed():
  config = Config(data=DataConfig(document_reset=True, document_separator='\n\n'))
  assert r'"document_separator": "\\n\\n"' in config.to_json()


@pytest.mark.parametrize('value, printed', [
    ('runs/first', '--workdir=runs/first'), ('my runs', "--workdir='my runs'"), ("it's", '''--workdir='it'"'"'s' '''),
    ('$HOME', "--workdir='$HOME'"), ('-x', '--workdir=-x'), ('a\nb', r"--workdir=$'a\x0ab'"),
    (os.fsdecode(b'\xff'), r"--workdir=$'\xff'")])
def test_a_flag_is_printed_for_pasting(value, printed):
  flag = typed.flag('workdir', value)
  assert flag == printed.strip()
  assert subprocess.run(['bash', '-c', f'printf %s {flag}'], capture_output=True, check=True).stdout == (
      b'--workdir=' + os.fsencode(value))


def test_commands_to_go_on_with_are_quoted():
  text = summary.summarize('/a b/$c', {'step': 1, 'finished': 'x', 'best_nats': None, 'best_step': 0,
                                       'average_from': None})
  assert text.count("--workdir='/a b/$c'") == 3
  assert "--logdir='/a b/$c'" in text


def flagfile(path, data):
  path.write_bytes(data)
  return parse(['charlm-train', f'--flagfile={path}'], (RunConfig, DataConfig))


def test_files_of_flags(tmp_path):
  wanted = {'workdir': 'w', 'batch_size': 3}
  assert flagfile(tmp_path / 'a', b'--workdir=w\n# no\n\n// no\n--batch_size=3') == wanted
  assert flagfile(tmp_path / 'b', b'\xef\xbb\xbf--workdir=w\r\n--batch_size=3\r\n') == wanted
  assert flagfile(tmp_path / 'c', f'--flagfile {tmp_path}/a'.encode().replace(b' ', b'=')) == wanted
  assert flagfile(tmp_path / 'd', '--workdir=Жук'.encode()) == {'workdir': 'Жук'}
  assert flagfile(tmp_path / 'e', b'') == {}
  assert parse(['charlm-train', '--flagfile', f'{tmp_path}/a', '-flagfile', f'{tmp_path}/d'],
               (RunConfig, DataConfig)) == {**wanted, 'workdir': 'Жук'}


@pytest.mark.parametrize('name, data, words', [
    ('a', b'\xff\xfe-\0-\0', 'expected a text file in UTF-8'), ('b', b'--workdir=\xe9', 'a text file in UTF-8'),
    ('c', b'--flagfile=c', 'includes itself'), ('d', b'--workdir=a\0b', '--workdir=a\0b: expected a path'),
    ('e', b'--flagfile=', '--flagfile: expected a file'), ('f', b'--flagfile=none', '--flagfile=none: expected a file'),
    ('g', b'--flagfile=.', '--flagfile=.: expected a file'), ('h', b'#' * 2**21, 'expected at most'),
    ('i', b'workdir=w', 'expected flags only')])
def test_files_of_flags_that_are_none(name, data, words, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as error:
    flagfile(type(tmp_path)(name), data)
  assert words in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('name', COMMANDS)
def test_a_name_cannot_break_the_line_of_a_message(name, capsys):
  with pytest.raises(SystemExit):
    COMMANDS[name].run([name, '--no such\nflag\x1b[2J=x'])
  line, = capsys.readouterr().err.splitlines()
  assert line.startswith(rf'{name}: --no such\nflag\x1b[2J: no such flag')


def test_a_file_with_a_prompt_is_read_as_it_is(tmp_path):
  (tmp_path / 'p').write_bytes(b'\xef\xbb\xbfone\\n\r\ntwo\r\n')
  assert prompts.given_prompt(SampleConfig(prompt_file=f'{tmp_path}/p')).text == b'one\\n\r\ntwo\r\n'


@pytest.mark.parametrize('data, words', [
  (b'\xff\xfea\0', 'is UTF-16; convert it: iconv -f UTF-16 -t UTF-8'), (b'\xef\xbb\xbf', 'is empty')])
def test_a_file_with_no_prompt_is_refused(data, words, tmp_path):
  (tmp_path / 'p').write_bytes(data)
  with pytest.raises(UserError, match=words):
    prompts.given_prompt(SampleConfig(prompt_file=f'{tmp_path}/p'))


def test_an_endless_prompt_is_refused():
  with pytest.raises(UserError, match='--prompt_file=/dev/zero: expected at most'):
    prompts.given_prompt(SampleConfig(prompt_file='/dev/zero'))


def test_lines_that_are_piped_in_may_come_from_windows(tmp_path, monkeypatch):
  (tmp_path / 'lines').write_bytes(b'\xef\xbb\xbfone\r\n\r\ntwo\rthree\n\xef\xbb\xbf')
  with open(tmp_path / 'lines') as lines:
    monkeypatch.setattr(sys, 'stdin', lines)
    assert list(keyboard.typed_lines()) == [b'one', b'', b'two\rthree', b'\xef\xbb\xbf']


def test_names_are_bytes_whatever_the_locale_was(tmp_path, monkeypatch):
  """A configuration may have been written, and may be read, in a locale where a name is taken for other characters."""
  by_bytes = os.fsdecode('Жук'.encode().decode('ascii', 'surrogateescape').encode('utf-8', 'surrogateescape'))
  assert os.fsencode(dataclasses.replace(DataConfig(), corpus=by_bytes).corpus) == 'Жук'.encode()
  assert typed.words('Жук'.encode().decode('ascii', 'surrogateescape')) == 'Жук'
