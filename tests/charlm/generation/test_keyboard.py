"""Lines that are typed, with their history, or piped in."""
import io
import os
import stat
import sys

import pytest

import runs
from charlm.generation import keyboard
from terminals import Terminal

LOOP = 'from charlm.generation import keyboard\nfor line in keyboard.typed_lines(): print(line)'
UP = '\x1b[A'


def test_lines_come_from_a_pipe_whatever_their_bytes_are(monkeypatch):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'one\n\n\xff\xc3\xa8'), 'utf-8'))
  assert list(keyboard.typed_lines()) == [b'one', b'', b'\xff\xc3\xa8']


def typed(folder, *lines, end='\x04'):
  """Types lines -> what comes of each, standard error."""
  terminal, found = Terminal([sys.executable, '-c', LOOP], XDG_CACHE_HOME=str(folder), PYTHONPATH=str(runs.ROOT)), []
  for line in lines:
    terminal.until('> ')
    terminal.type(f'{line}\n')
    terminal.until("b'")
    found.append(terminal.until("'\n"))
  terminal.until('> ')
  terminal.type(end)
  status, err = terminal.end()
  assert status == 0
  return found, err


def test_lines_are_edited_and_kept_for_the_next_session(tmp_path):
  found, err = typed(tmp_path, 'one', 'twX\bo', 'th')
  assert (found, err) == (['one', 'two', 'th'], ':help lists the commands, Ctrl-D ends.\n')
  assert typed(tmp_path, f'{UP}ree', UP * 3)[0] == ['three', 'two']
  history = tmp_path / 'charlm' / 'history'
  assert history.read_text().splitlines() == ['one', 'two', 'th', 'three', 'two']
  assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_the_history_is_bounded(tmp_path):
  (tmp_path / 'charlm').mkdir()
  history = tmp_path / 'charlm' / 'history'
  history.write_text(''.join(f'{i}\n' for i in range(3000)))
  assert typed(tmp_path, UP)[0] == ['2999']
  lines = history.read_text().splitlines()
  assert len(lines) == keyboard.HISTORY_LINES and lines[-2:] == ['2998', '2999']


def test_a_readline_that_cannot_add_to_a_file_is_done_without(tmp_path, monkeypatch):
  readline = pytest.importorskip('readline')
  monkeypatch.delattr(readline, 'append_history_file')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  with keyboard.history():
    pass
  assert (tmp_path / 'charlm' / 'history').read_text() == ''


@pytest.mark.parametrize('kind', ['a file', 'a folder', 'no place', 'no home'])
def test_it_does_without_a_place_for_the_history(tmp_path, kind):
  folder = tmp_path
  if kind == 'a file':
    (tmp_path / 'charlm').write_text('')
  elif kind == 'a folder':
    (tmp_path / 'charlm' / 'history').mkdir(parents=True)
  else:
    folder = '/proc/none' if kind == 'no place' else '~nobody-here/x'
  before = sorted(os.walk(tmp_path))
  assert typed(folder, 'one', UP) == (['one', 'one'], ':help lists the commands, Ctrl-D ends.\n')
  assert sorted(os.walk(tmp_path)) == before
