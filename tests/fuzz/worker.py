"""A process that calls commands, one after the other, for as long as it is asked to: TensorFlow takes seconds to
import.

Each line of standard input asks for a call, and each line of standard output answers one, both in JSON (see `call`).
"""
import importlib
import json
import os
import sys
import traceback


def call(module, arguments, folder, stdin, stdout, stderr):
  """Calls a command as its console script does.

  Args:
    module: of the command.
    arguments: its flags.
    folder: to work in, the home folder, too.
    stdin: the file that is its standard input.
    stdout, stderr: the files that take what it writes.

  Returns:
    [exit status, '']; or [None, traceback] if it raises anything but SystemExit.
  """
  os.chdir(folder)
  os.environ['HOME'] = folder
  for number, path in enumerate([stdin, stdout, stderr]):
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
    os.dup2(opened, number)
    os.close(opened)
  sys.stdin, sys.stdout, sys.stderr = (
      open(number, mode, encoding='utf-8', errors=errors, closefd=False)  # noqa: SIM115
      for number, mode, errors in [(0, 'r', 'surrogateescape'), (1, 'w', 'strict'), (2, 'w', 'backslashreplace')])
  try:
    if module == 'charlm.commands.export':
      check_exports_here()
    importlib.import_module(module).run([f'charlm-{module.rpartition(".")[2]}', *arguments])
    sys.stdout.flush()
    return [0, '']
  except SystemExit as error:
    return [error.code or 0, '']
  except BaseException:
    return [None, traceback.format_exc()]
  finally:
    sys.stderr.flush()


def check_exports_here():
  """Has exports prove themselves in this process, not in a new one for each, as tests of the export do."""
  from charlm.commands import console
  with console.quietly():
    from charlm.serving import answer, check
  check._run = lambda command, folder: answer.answer(*command[3:6])


def serve():
  """Answers requests until standard input ends."""
  requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), 'w')
  for line in requests:
    answers.write(json.dumps(call(*json.loads(line))) + '\n')
    answers.flush()


if __name__ == '__main__':
  serve()
