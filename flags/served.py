"""Flags of commands that can ask a server that has the model, in place of a workdir."""
import dataclasses
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

from flags import typed
from flags.errors import UserError
from flags.schema import Checked, field

ADDRESSES = 'http://', 'https://', 'grpc://'
NO_HOST = re.compile(r'[\0-\x20\x7f]')


def server() -> Any:
  """The field of the address."""
  return field('', 'Address of a server that has the model, http://HOST:PORT, https://... or grpc://HOST:PORT, in '
               'place of --workdir.', short='Address of a server that has the model')


def model() -> Any:
  """The field of the name."""
  return field('charlm', "The server's name for the model.", only_with='server',
               short="The server's name for the model")


def check(config: Checked, taken: Sequence[str]) -> None:
  """Checks flags that are for a server.

  Args:
    config: the flags, `server` and `model` among them.
    taken: the others that have an effect there.

  Raises:
    UserError: --server is no address, --model is no text, or another flag is given.
  """
  address = config.server  # type: ignore[attr-defined]
  check_address(address, config.model, '--')  # type: ignore[attr-defined]
  for f in dataclasses.fields(config):
    value = getattr(config, f.name)
    if f.name not in ('server', 'model', *taken) and value != f.default:
      raise UserError(f'{typed.assigned(f.name, value)} has no effect with --server={address}: expected it left out. A '
                      'server takes --' + ', --'.join(taken))


def check_address(server: str, model: str, dashes: str = '') -> None:
  """Checks where a model is.

  Args:
    server: its address.
    model: its name there.
    dashes: what comes before the names `server` and `model` in messages.

  Raises:
    UserError: the first is no address, or one of them has bytes that are not UTF-8.
  """
  try:
    server.encode()
    parts = urllib.parse.urlsplit(server)
    host, path = parts.hostname or '', parts.path.strip('/')
    host.encode('idna')
    whole = not (parts.query or parts.fragment or parts.username or NO_HOST.search(host))
    known = server.startswith(ADDRESSES) and host and whole and parts.port != 0 and not (
      parts.scheme == 'grpc' and path)
  except ValueError:  # a UnicodeError is one
    known = False
  if not known:
    raise UserError(f'{dashes}server={server}: expected the address of a server: http://HOST:PORT, '
                    'https://HOST:PORT or grpc://HOST:PORT')
  try:
    model.encode()
  except UnicodeEncodeError:
    raise UserError(f'{dashes}model={model}: expected text, found bytes that are not UTF-8') from None
