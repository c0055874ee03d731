"""A command that does what no command may, so that the tests see it noticed."""
import os
import signal
import sys


def run(argv):
  """Does what the first flag says, then writes what the second one says into a file."""
  fault, text = argv[1:]
  if fault == 'hang':
    while True:
      pass
  if fault == 'grow':
    held = b'x' * (1 << 28)
    while held:
      pass
  if fault == 'die':
    os.kill(os.getpid(), signal.SIGKILL)
  if fault == 'raise':
    raise ZeroDivisionError(text)
  print(sys.stdin.read())
  print(text, file=sys.stderr)
  open('written', 'w').close()
  if fault != '0':
    sys.exit(int(fault))
