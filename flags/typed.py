r"""Values of flags as they are typed, what they mean, and how they are printed to be typed again."""
import dataclasses
import errno
import itertools
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from flags.errors import UserError

ADDRESS = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*://)(.*)', re.DOTALL)
# That a flag takes beside paths, as TensorFlow (Datasets) reads them. ram:// is memory of the process itself.
ADDRESSES = {'data_dir': ('gs://',), 'tokens': ('gs://', 'ram://')}
TOKENS = 'tokens:'  # before the folder of prepared tokens, in a flag that names a text
COPY = {'s3://': 'aws s3 cp --recursive', 'gs://': 'gcloud storage cp -r'}  # how a folder is copied
MOST_SOUGHT = 1000  # bytes of texts that are looked for in what a model writes
ESCAPES = {'n': '\n', 't': '\t', 'r': '\r', '\\': '\\'}


def meaning(f: dataclasses.Field, typed: Any) -> Any:
  """What a value of a flag means: `path` and `unescaped` where its field says so.

  Where the locale is ASCII, bytes that are no ASCII come as lone surrogates; they are taken as UTF-8.
  """
  if 'path' in f.metadata:
    return path(f.name, typed)
  if isinstance(typed, list):  # of a flag that may be given several times
    return tuple(_text(f, text) for text in typed)
  return _text(f, typed) if f.type is str else typed


def _text(f: dataclasses.Field, typed: str) -> str:
  text = typed.encode('utf-8', 'surrogateescape').decode('utf-8', 'surrogateescape')
  return unescaped(text) if 'escapes' in f.metadata else text


def path(flag: str, typed: str) -> str:
  """A path with the home folder in place of ~ or ~user, by a name that the system takes whatever the locale is.

  Args:
    flag: that gives it, for messages.
    typed: the path. A path that this function has returned stays as it is.

  Raises:
    UserError: there is no such home folder, no path can have this name, or it is the address of something elsewhere.
  """
  if flag == 'corpus' and typed.startswith(TOKENS):
    return TOKENS + _path(f'--{flag}={typed}', 'tokens', typed.removeprefix(TOKENS))
  return _path(f'--{flag}={typed}', flag, typed)


def operand(typed: str) -> str:
  """A path that is given without a flag, as `path`; - stays as it is."""
  return _path(typed, 'texts', typed)


def _path(named: str, flag: str, typed: str) -> str:
  """As `path`. named: how messages name it."""
  _check_local(named, flag, typed)
  try:
    found = _at_home(_of_locale(typed))
    if '\0' in found:
      raise ValueError('has a NUL character')
    os.lstat(found)
  except OSError as error:
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
      raise UserError(f'{named}: expected a path that can exist ({error.strerror})') from error
  except ValueError as error:
    raise UserError(f'{named}: expected a path ({error})') from error
  except LookupError as error:
    raise UserError(f'{named}: {error.args[0]}; expected a path without ~, such as /data/{flag}, or ./~ for what has '
                    'that name') from error
  return found


def _check_local(named: str, flag: str, typed: str) -> None:
  """Raises UserError where a path is the address of something that the flag does not take, such as gs://bucket/text."""
  address, taken = ADDRESS.match(typed), ADDRESSES.get(flag, ())
  if address and address[1].lower() not in taken:
    wanted = ' or '.join(['a path on this machine', *taken])
    command = COPY.get(address[1].lower(), '') if flag == 'tokens' else ''
    hint = f', such as {address[2]}' if address[1].lower() == 'file://' else '; copy it here first' + (
      f': {command} {quoted(typed)} FOLDER' if command else '')
    raise UserError(f'{named}: {address[1]} is not supported; expected {wanted}{hint}')


def _of_locale(typed: str) -> str:
  """The name as the locale has it: names are bytes, and what the locale cannot say is taken as UTF-8."""
  try:
    os.fsencode(typed)
    return typed
  except UnicodeEncodeError:
    return os.fsdecode(typed.encode('utf-8', 'surrogateescape'))


def _at_home(typed: str) -> str:
  """A path with the home folder in place of ~ or ~user. Raises LookupError where there is none."""
  if not typed.startswith('~'):
    return typed
  user = typed[1:].partition('/')[0]
  if not (os.path.isabs(os.path.expanduser(typed)) if user else has_home()):
    raise LookupError(f'there is no user {user} here' if user else 'there is no home folder here, as HOME is not set')
  return os.path.expanduser(typed)


def has_home() -> bool:
  """Whether HOME is set, or the system knows a home folder of this user."""
  return os.environ.get('HOME') != '' and os.path.isabs(os.path.expanduser('~'))


def unescaped(typed: str) -> str:
  r"""Text with a line end for \n, a tab for \t, a carriage return for \r and a backslash for \\."""
  return re.sub(r'\\([ntr\\])', lambda found: ESCAPES[found[1]], typed)


def escaped(text: str) -> str:
  """Text as it may be typed for `unescaped`."""
  for letter, character in reversed(ESCAPES.items()):  # the backslash first
    text = text.replace(character, f'\\{letter}')
  return text


def check_sought(flag: str, texts: Sequence[str]) -> None:
  """Refuses texts that cannot be looked for in what a model writes.

  Args:
    flag: that gives them, for messages.
    texts: each of them a value of the flag.

  Raises:
    UserError: a text is empty or not UTF-8, or together they are longer than MOST_SOUGHT.
  """
  for text in texts:
    if not text:
      raise UserError(f'--{flag}= beside --{flag}={escaped(max(texts))}: expected a text')
    if any('\ud800' <= character <= '\udfff' for character in text):
      raise UserError(f'--{flag}={text!a}: expected UTF-8')
  if sum(len(text.encode()) for text in texts) > MOST_SOUGHT:
    raise UserError(f'--{flag}: expected at most {MOST_SOUGHT:,} bytes of text')


def separate(flag: str, texts: Sequence[str]) -> None:
  """As `check_sought`; refuses a text within another, too: it could not be said which turns up first."""
  check_sought(flag, texts)
  for one, other in itertools.permutations(texts, 2):
    if one in other:
      raise UserError(f'--{flag}={escaped(one)} --{flag}={escaped(other)}: the first is within the second; expected '
                      'one of them')


def assigned(name: str, value: Any) -> str:
  """A flag and its value as messages have them: --stop=a --stop=b for one that is given several times."""
  return ' '.join(f'--{name}={escaped(text)}' for text in value) if isinstance(value, tuple) else f'--{name}={value}'


def words(path: str | os.PathLike) -> str:
  """A path as people read it: in UTF-8, whatever the locale is, with escapes for bytes that are none."""
  return os.fsencode(path).decode('utf-8', 'backslashreplace')


def line(path: str | os.PathLike) -> str:
  """As `words`, with escapes for what would break a line or move the cursor."""
  return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in words(path))


def flag(name: str, value: object) -> str:
  """A flag as it is printed for pasting into a shell: --workdir='my runs/first'. value: a path, or a number."""
  return f'--{name}={quoted(value)}'


def quoted(value: object) -> str:
  """A path or a number as a word of a shell."""
  data = os.fsencode(str(value))
  text = data.decode('utf-8', 'surrogateescape')
  if text.isprintable():
    return shlex.quote(text)
  return "$'" + ''.join(chr(b) if 32 <= b < 127 and b not in b"'\\" else f'\\x{b:02x}' for b in data) + "'"
