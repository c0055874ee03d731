"""Chromium without a window, driven by the WebDriver protocol (W3C). Tests use it, too. No package is needed.

Debian has both programs: apt install chromium chromium-driver.
"""
import base64
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

PROGRAMS = ['chromedriver', next((name for name in ['chromium', 'google-chrome', 'chrome'] if shutil.which(name)),
                                 'chromium')]
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
KEYS = {'Tab': '\ue004', 'ArrowLeft': '\ue012', 'ArrowUp': '\ue013', 'ArrowRight': '\ue014', 'ArrowDown': '\ue015'}


class Browser:
  """A session. Errors of the driver are RuntimeErrors."""

  def __init__(self, address):
    self._address = address
    options = {'binary': shutil.which(PROGRAMS[1]), 'args': ['--headless=new', '--no-sandbox', '--disable-gpu',
                                                            '--window-size=1000,900', '--disable-dev-shm-usage']}
    asked = {'capabilities': {'alwaysMatch': {'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}}}
    self._address += '/session/' + self._ask('POST', '/session', asked)['sessionId']

  def _ask(self, method, path, body=None):
    request = urllib.request.Request(self._address + path, method=method,
                                     data=None if body is None else json.dumps(body).encode())
    try:
      with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)['value']
    except urllib.error.HTTPError as error:
      raise RuntimeError(json.load(error)['value']['message']) from error

  def open(self, path):
    """Opens a file, and waits until it is loaded."""
    self._ask('POST', '/url', {'url': pathlib.Path(path).resolve().as_uri()})

  def run(self, script, *arguments):
    """What a script returns; in it, `arguments` are these."""
    return self._ask('POST', '/execute/sync', {'script': script, 'args': arguments})

  def wait(self, script):
    """What a script hands to the function that is its last argument."""
    return self._ask('POST', '/execute/async', {'script': script, 'args': []})

  def press(self, *keys):
    """Presses keys, by the names of KEYS or as characters, one after the other."""
    actions = [{'type': kind, 'value': KEYS.get(key, key)} for key in keys for kind in ('keyDown', 'keyUp')]
    self._ask('POST', '/actions', {'actions': [{'type': 'key', 'id': 'keys', 'actions': actions}]})

  def point(self, x, y):
    """Moves the pointer to a place in the window."""
    move = {'type': 'pointerMove', 'x': int(x), 'y': int(y), 'duration': 0}
    self._ask('POST', '/actions', {'actions': [{'type': 'pointer', 'id': 'mouse', 'actions': [move]}]})

  def dark(self, on):
    """Has pages think that the user prefers dark ones, or light ones."""
    value = 'dark' if on else 'light'
    self.command('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': value}])

  def command(self, name, **parameters):
    """A command of Chromium's own protocol."""
    return self._ask('POST', '/goog/cdp/execute', {'cmd': name, 'params': parameters})

  def messages(self):
    """What the page has written to the console since the last call: warnings and errors."""
    return [entry['message'] for entry in self._ask('POST', '/se/log', {'type': 'browser'})]

  def screenshot(self):
    """The window as PNG."""
    return base64.b64decode(self._ask('GET', '/screenshot'))

  def quit(self):
    """Ends the browser."""
    self._ask('DELETE', '')


@contextlib.contextmanager
def browser():
  """A context that yields a Browser."""
  with tempfile.TemporaryFile() as log, subprocess.Popen([PROGRAMS[0], '--port=0'], stdout=subprocess.PIPE,
                                                         stderr=log, text=True) as driver:
    try:
      port = next(found[1] for line in driver.stdout if (found := re.search(r'successfully on port (\d+)', line)))
      one = Browser(f'http://127.0.0.1:{port}')
      try:
        yield one
      finally:
        one.quit()
    finally:
      driver.terminate()
