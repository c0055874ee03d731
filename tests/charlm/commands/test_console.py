"""A command tells what went wrong in one line and an exit status, and explains itself."""
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from charlm.commands import console
from flags.errors import RunError, UserError
from flags.run import RunConfig


def run(main, *arguments):
  console.command(main, RunConfig)(['charlm-train', *arguments])


def test_a_command_gets_the_flags_that_were_given():
  given = []
  run(given.append, '--workdir=w')
  assert given == [{'workdir': 'w'}]


@pytest.mark.parametrize('flag', ['--help', '-help', '-h', '--helpshort', '--helpfull', '-helpfull'])
def test_help_is_printed_in_place_of_the_work(flag, capsys):
  def main(given):
    """does nothing."""
    raise AssertionError('was called')

  run(main, '--workdir=w', flag)
  out = capsys.readouterr().out
  assert out.startswith('charlm-train: does nothing.\n') and '--workdir' in out
  assert ('--profile' in out) == flag.endswith('helpfull')


@pytest.mark.parametrize('error,status', [(UserError('--a=b: expected c'), 2), (RunError('no room'), 1),
                                          (KeyboardInterrupt(), 130)])
def test_exit_status(error, status, capsys):
  def main(given):
    raise error

  with pytest.raises(SystemExit) as exit_:
    run(main)
  assert exit_.value.code == status
  if str(error):
    assert capsys.readouterr().err == f'charlm-train: {error}\n'


@pytest.mark.parametrize('error,words', [
  (tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating\nmore'), 'needs more memory than there is (Reso'),
  (MemoryError(), 'needs more memory'), (tf.errors.InternalError(None, None, 'a b\nc'), 'failed (InternalError: a b)')])
def test_what_tensorflow_fails_of_is_one_line(error, words, capsys):
  def main(given):
    raise error

  with pytest.raises(SystemExit) as exit_:
    run(main)
  line, = capsys.readouterr().err.splitlines()
  assert exit_.value.code == 1 and words in line


def test_a_fault_of_charlm_is_not_hidden():
  def main(given):
    raise KeyError('a ROOM')

  with pytest.raises(KeyError):
    run(main)


def test_what_an_import_writes_to_standard_error_is_held_back():
  def stderr(body):
    code = f'import os\nfrom charlm.commands import console\nwith console.quietly():\n  {body}\nos.write(2, b"after")'
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=os.environ).stderr

  assert stderr('os.write(2, b"noise")') == 'after'
  failed = stderr('os.write(2, b"noise"); import no_such_module')
  assert failed.startswith('noise') and failed.rstrip().endswith("No module named 'no_such_module'")
  for error in 'UserError', 'RunError':  # one line tells it
    told = stderr(f'os.write(2, b"noise")\n  from flags import errors\n  raise errors.{error}("what")')
    assert 'noise' not in told and told.endswith(f'{error}: what\n')


@pytest.mark.parametrize('error', [ImportError('libx.so: failed to map\nsegment'), MemoryError(), SystemError('NULL')])
def test_a_library_that_cannot_be_loaded_is_told_in_one_line(capsys, error):
  def main(given):
    with console.quietly():
      raise error

  with pytest.raises(SystemExit) as exit_:
    console.command(main)(['charlm-test'])
  err = capsys.readouterr().err
  assert exit_.value.code == 1 and err.count('\n') == 1
  assert err.startswith(f'charlm-test: a library cannot be loaded ({type(error).__name__}: ')
