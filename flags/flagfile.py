"""Files of flags, one in each line, as --flagfile=FILE names them on a command line or in such a file."""
import re
from collections.abc import Sequence

from flags import typed
from flags.errors import UserError

MOST_BYTES = 2**20  # of a file of flags


def expanded(arguments: Sequence[str], beneath: tuple[str, ...] = ()) -> list[str]:
  """Arguments with the lines of each --flagfile in its place.

  Empty lines and those that begin with # or // are comments. Lines may end in CR LF, and the file may begin with a
  byte order mark.

  Args:
    arguments: of a command line, or lines of a file.
    beneath: the files that are being read, the outermost first.

  Raises:
    UserError: a file cannot be read, is no text, or includes itself.
  """
  found: list[str] = []
  waiting = iter(arguments)
  for argument in waiting:
    if argument == '--':
      return [*found, argument, *waiting]
    flag = re.fullmatch('--?flagfile(?:=(.*))?', argument, re.DOTALL)
    if not flag:
      found.append(argument)
      continue
    name = next(waiting, '') if flag[1] is None else flag[1]
    if not name or name.startswith('--'):
      raise UserError('--flagfile: expected a file, such as --flagfile=my.flags')
    found += _lines(typed.path('flagfile', name), beneath)
  return found


def _lines(path: str, beneath: tuple[str, ...]) -> list[str]:
  """The arguments in a file."""
  if path in beneath:
    raise UserError(f'--flagfile={path}: includes itself; expected a file that does not')
  try:
    with open(path, 'rb') as file:
      data = file.read(MOST_BYTES + 1)
    lines = [line.strip() for line in data.decode('utf-8-sig').split('\n')]
  except OSError as error:
    raise UserError(f'--flagfile={path}: expected a file that can be read ({error.strerror})') from error
  except UnicodeDecodeError as error:
    raise UserError(f'--flagfile={path}: expected a text file in UTF-8 with a flag in each line, not a binary '
                    f'one') from error
  if len(data) > MOST_BYTES:
    raise UserError(f'--flagfile={path}: expected at most {MOST_BYTES:,} bytes of flags')
  return expanded([line for line in lines if line and not line.startswith(('#', '//'))], (*beneath, path))
