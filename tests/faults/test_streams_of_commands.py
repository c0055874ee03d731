"""Whatever the streams, the locale and the folders of a process are: it works, or says in one line what fails."""
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time

import pytest

import runs
from all_flags import COMMANDS
from charlm.commands import streams

ASCII = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
FULL = 'standard output cannot be written (No space left on device)'
SMALL = ['--units=8', '--layers=1', '--embedding_size=8', '--input_units=8', '--batch_size=4', '--chunk_length=16',
         '--steps=4', '--sample_every=2']


@pytest.fixture(scope='module')
def german(tmp_path_factory):
  """Environments of locales with a decimal comma: in Latin-1 and in UTF-8."""
  folder = tmp_path_factory.mktemp('locales')
  for name, charset in ('de_DE', 'ISO-8859-1'), ('de_DE.utf8', 'UTF-8'):
    try:
      subprocess.run(['localedef', '-i', 'de_DE', '-f', charset, folder / name], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
      pytest.skip(f'localedef makes no German locale here: {error}')
  return [{'LOCPATH': str(folder), 'LC_ALL': name} for name in ('de_DE', 'de_DE.utf8')]


def shell(line, *arguments, code=None, cwd=runs.ROOT, **environment):
  """Runs a line of bash, where "$@" is Python with a program or the arguments."""
  program = ['-c', code] if code else []
  paths = os.pathsep.join(filter(None, [str(runs.ROOT), os.environ.get('PYTHONPATH')]))
  return subprocess.run(['bash', '-c', line, 'bash', sys.executable, *program, *arguments], capture_output=True,
                        cwd=cwd, env={**os.environ, 'PYTHONPATH': paths, 'PYTHONUNBUFFERED': '', **environment},
                        check=False)


def command(body):
  """The source of a command that does this."""
  return ('import os, sys\nfrom charlm.commands import console\nfrom flags.errors import UserError\n'
          f'from flags.run import RunConfig\ndef main(given):\n  {body}\n'
          "console.command(main, RunConfig)(['charlm-x', '--workdir=w'])")


def tells(done, status, words=''):
  """Whether a process has ended with this status and, if there are words, one line that has them."""
  lines = runs.without_account(done.stderr.decode()).splitlines()
  return done.returncode == status and len(lines) == bool(words) and all(words in line for line in lines)


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_bears_full_and_closed_streams(name):
  module = f'charlm.commands.{name.removeprefix("charlm-")}'
  done = shell('"$@" --help > /dev/full; a=$?; "$@" --helpfull <&- >&- 2>&-; b=$?; "$@" <&- >&- 2>&-; c=$?; '
               '"$@" --no_such_flag 2> /dev/full; echo $a $b $c $?', '-m', module)
  assert tells(done, 0, FULL)
  assert done.stdout == b'1 0 2 2\n'


@pytest.mark.parametrize('body', ["print('x')", "print('x' * 100_000)", "print('x', end='')", "print('x', flush=True)"])
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_a_full_disk_is_told_in_one_line(body, unbuffered):
  assert tells(shell('exec "$@" > /dev/full', code=command(body), PYTHONUNBUFFERED=unbuffered), 1, FULL)


def test_what_went_wrong_counts_more_than_a_full_disk():
  body = "print('x'); raise UserError('--a=b: expected c')"
  assert tells(shell('exec "$@" > /dev/full', code=command(body)), 2, '--a=b: expected c')


def test_a_reader_that_has_gone_ends_a_command_silently():
  done = shell('"$@" | true; echo ${PIPESTATUS[0]}', code=command("import time; time.sleep(0.5); print('x' * 100_000)"))
  assert tells(done, 0) and done.stdout == b'1\n'


@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-', '<&- >&-', '<&- >&- 2>&-'])
def test_no_file_gets_the_descriptor_of_a_closed_stream(closed, tmp_path):
  body = ("opened = os.open('/dev/null', os.O_RDONLY); print('out'); print('err', file=sys.stderr); "
          "rest = sys.stdin.read(); "
          f"open({str(tmp_path / 'seen')!r}, 'w').write(repr((opened > 2, rest)))")
  done = shell(f'exec "$@" {closed} < /dev/null' if '<&-' not in closed else f'exec "$@" {closed}', code=command(body))
  assert done.returncode == 0
  assert (tmp_path / 'seen').read_text() == "(True, '')"
  assert done.stdout == (b'' if '>&-' in closed.split() else b'out\n')
  assert done.stderr == (b'' if '2>&-' in closed else b'err\n')


def test_the_work_goes_on_where_standard_error_cannot_be_written():
  for errors in ('/dev/full', '/dev/null'):
    done = shell(f'exec "$@" 2> {errors}', code=command("print('x' * 100_000, file=sys.stderr); print('done')"))
    assert done.returncode == 0 and done.stdout == b'done\n'


WORDS = r"print('\u0416\xe9\udce9', file=sys.stderr); print('\u0416\xe9', '\udcd0\udc96\udcff', '\ud800')"


def test_output_is_utf_8_whatever_the_locale(german):
  for environment in (ASCII, *german, {'PYTHONIOENCODING': 'utf-8'}):
    done = shell('exec "$@"', code=command(WORDS), **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == 'Жé Ж\\xff \\ud800\n'
    assert done.stderr.decode() == 'Жé\\xe9\n'


@pytest.mark.parametrize('chosen, wanted', [
    ('latin-1', b'\\u0416\xe9 \\u0416\\xff \\ud800\n'), ('ascii:replace', b'?? ??? ?\n'), (':ignore', None)])
def test_an_encoding_that_the_user_has_chosen_holds(chosen, wanted):
  done = shell('exec "$@"', code=command(WORDS), PYTHONIOENCODING=chosen)
  assert done.returncode == 0, done.stderr
  assert done.stdout == (wanted or 'Жé  \n'.encode())


def test_a_terminal_that_cannot_show_a_character_shows_an_escape():
  controller, terminal = pty.openpty()
  environment = {**os.environ, **ASCII, 'PYTHONPATH': str(runs.ROOT)}
  program = [sys.executable, '-c', command(r"print('a\u0416')")]
  subprocess.run(program, stdout=terminal, stderr=terminal, env=environment, check=True)
  os.close(terminal)
  assert os.read(controller, 100) == b'a\\u0416\r\n'
  os.close(controller)


def test_imports_are_silent_without_any_folder_for_temporary_files(monkeypatch, capfd):
  monkeypatch.delattr(os, 'memfd_create', raising=False)

  def unusable(*arguments, **options):
    raise FileNotFoundError(2, 'No usable temporary directory found')

  monkeypatch.setattr(tempfile, 'TemporaryFile', unusable)
  with streams.quietly():
    os.write(2, b'noise')
  assert capfd.readouterr().err == 'noise'
  monkeypatch.undo()
  monkeypatch.setattr(tempfile, 'TemporaryFile', unusable)
  with streams.quietly():
    os.write(2, b'noise')
  assert capfd.readouterr().err == ''


def test_libraries_do_without_home_and_temporary_folder():
  body = ("import tempfile; print(os.environ['KERAS_HOME'], tempfile.gettempdir() in ('/dev/shm', '/tmp'), "
          "os.environ['TMPDIR'] == tempfile.gettempdir())")
  code = f'import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n{command(body)}'
  done = shell('exec "$@"', code=code, HOME='')
  assert done.stdout == b'/dev/null True True\n', done.stderr


def charlm(name, *arguments, cwd, **environment):
  done = shell('exec "$@"', '-m', f'charlm.commands.{name}', *arguments, cwd=cwd, **environment)
  assert done.returncode == 0 and b'Traceback' not in done.stderr, done.stderr.decode('utf-8', 'replace')
  return done.stdout


def use(corpus, cwd, workdir, export_dir='out', **environment):
  """Trains, evaluates, samples and exports -> what evaluation reports."""
  flag = os.fsencode(f'--workdir={workdir}')
  charlm('train', f'--corpus={corpus}', flag, *SMALL, '--profile', cwd=cwd, **environment)
  text = charlm('sample', flag, '--length=40', '--prompt=It ', cwd=cwd, **environment).decode()
  assert text.startswith('It ')
  charlm('export', flag, f'--export_dir={export_dir}', cwd=cwd, **environment)
  assert (cwd / export_dir / '1' / 'saved_model.pb').exists()
  assert list((cwd / workdir / 'tensorboard').glob('events.out.*'))
  return json.loads(charlm('evaluate', flag, cwd=cwd, **environment))


@pytest.mark.slow
def test_any_workdir_in_any_locale(corpus, german, tmp_path):
  """The same figures in all of them: with Cyrillic names, names that are not UTF-8, and a decimal comma."""
  reports = [use(corpus, tmp_path, 'plain')]
  reports.append(use(corpus, tmp_path, 'Жук/a b', 'вывод', **ASCII))
  reports.append(use(corpus, tmp_path, os.fsdecode(b'caf\xe9\n'), 'out2'))
  for i, environment in enumerate(german):
    reports.append(use(corpus, tmp_path, f'Жé{i}', f'вывод{i}', **environment))
  assert [report['workdir'] for report in reports] == ['plain', 'Жук/a b', 'caf\\xe9\n', 'Жé0', 'Жé1']
  assert len({report['nats_per_token'] for report in reports}) == 1
  lines = (tmp_path / 'Жé1' / 'metrics.jsonl').read_text().splitlines()
  assert all(json.loads(line)['step'] for line in lines)


@pytest.mark.slow
def test_a_run_without_streams_is_whole(corpus, tmp_path):
  arguments = '-m', 'charlm.commands.train', f'--corpus={corpus}', f'--workdir={tmp_path}/w'
  done = shell('"$@" <&- >&- 2>&-', *arguments, *SMALL)
  assert done.returncode == 0
  assert runs.last(tmp_path / 'w')[1]['step'] == 4


@pytest.mark.slow
def test_no_folder_is_named_like_a_home(corpus, tmp_path):
  """As in a container with docker --user: a user without a name, a home, or a folder for temporary files."""
  line = 'unshare --user --map-user=4242 env -u HOME -u XDG_CACHE_HOME TMPDIR=/none "$@"'
  if shell('unshare --user --map-user=4242 true').returncode:
    pytest.skip('unshare makes no user here')
  arguments = '-m', 'charlm.commands.train', f'--corpus={corpus}', '--workdir=w', *SMALL
  assert tells(shell(line, *arguments, cwd=tmp_path), 2, '--cache_dir: expected a folder')
  assert shell(line, *arguments, '--cache_dir=c', cwd=tmp_path).returncode == 0
  assert {path.name for path in tmp_path.iterdir()} == {'w', 'c'}


@pytest.mark.slow
@pytest.mark.parametrize('number, ignored', [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGHUP, True)])
def test_a_run_that_is_hung_up_saves(corpus, tmp_path, number, ignored):
  """Twice, as a terminal does that closes; under nohup it goes on."""
  inherited = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
  try:
    process = runs.start(corpus, tmp_path / 'w', '--steps=3000', '--save_every=0', '--eval_every=0', '--sample_every=0')
  finally:
    signal.signal(signal.SIGHUP, inherited)
  while not (tmp_path / 'w' / 'metrics.jsonl').exists() or not (tmp_path / 'w' / 'metrics.jsonl').read_text():
    time.sleep(0.05)
    assert process.poll() is None, process.stderr.read()
  process.send_signal(number)
  if number == signal.SIGHUP:
    process.send_signal(number)
  _, errors = process.communicate()
  assert process.returncode == (0 if ignored else 130), errors
  assert ('all is saved' in errors) != ignored
  step = runs.last(tmp_path / 'w')[1]['step']
  assert step == 3000 if ignored else 0 < step < 3000
