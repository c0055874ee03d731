"""A program at a terminal of its own."""
import os
import pty
import select
import subprocess
import time


class Terminal:
  """A program whose streams are a terminal; standard error, which is not shown there, is kept."""

  def __init__(self, command, **environment):
    self._controller, terminal = pty.openpty()
    self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, text=True,
                                    start_new_session=True, env={**os.environ, 'TERM': 'dumb', **environment})
    os.close(terminal)

  def until(self, words, seconds=120):
    """-> what is shown until these words are, with \\n for line ends; they are passed over."""
    shown, end = '', time.monotonic() + seconds
    while words not in shown:
      ready, *_ = select.select([self._controller], [], [], end - time.monotonic())
      assert ready, shown
      shown += os.read(self._controller, 1).decode('latin-1').replace('\r', '')
    return shown.removesuffix(words)

  def type(self, keys):
    os.write(self._controller, keys.encode())

  def end(self):
    """-> exit status, standard error."""
    err = self.process.communicate(timeout=120)[1]
    os.close(self._controller)
    return self.process.returncode, err
