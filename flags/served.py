"""Flags of commands that can ask a server that has the model, in place of a workdir."""
import dataclasses
from collections.abc import Sequence
from typing import Any

from flags import typed
from flags.errors import UserError
from flags.schema import Checked, field

ADDRESSES = 'http://', 'https://', 'grpc://'


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
    UserError: --server is no address, or another flag is given.
  """
  address = config.server  # type: ignore[attr-defined]
  if not address.startswith(ADDRESSES):
    raise UserError(f'--server={address}: expected http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT')
  for f in dataclasses.fields(config):
    value = getattr(config, f.name)
    if f.name not in ('server', 'model', *taken) and value != f.default:
      raise UserError(f'{typed.assigned(f.name, value)} has no effect with --server={address}: expected it left out. A '
                      'server takes --' + ', --'.join(taken))
