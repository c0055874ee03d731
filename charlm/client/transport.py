"""How a request travels: what REST and gRPC have in common, and when a request is sent again."""
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from flags.errors import RunError

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds before a request is sent again; doubled each time

Columns = dict[str, list[Any]]  # {name: a value for each row}: str, bytes, int, float, or a list of floats
Answer = TypeVar('Answer')


class ServerError(RunError):
  """The server refused a request, answered with something else, or could not be reached."""


class Unavailable(ServerError):
  """The server could not be reached, or said that it is not ready; nothing was computed."""


def foreign(found: str) -> ServerError:
  """The error for an answer that no model of charlm-export gives. found: what is wrong with it."""
  return ServerError(f'{found}. Is this a model that charlm-export wrote?')


class Transport(Protocol):
  """A way to a served model."""

  def call(self, signature: str, inputs: Mapping[str, Sequence[Any]]) -> Columns:
    """Asks for a signature.

    Args:
      signature: its name.
      inputs: {name: a value for each row}.

    Returns:
      {name: a value for each row}. A name that ends in _bytes has bytes, other text is str.

    Raises:
      ServerError: as it says.
    """

  def close(self) -> None:
    """Ends the connection."""


def retried(send: Callable[[], Answer], retries: int) -> Answer:
  """Calls `send`, and again while the server is unavailable, after longer and longer pauses.

  Args:
    send: raises Unavailable where trying again may help.
    retries: how often to try again.
  """
  for i in range(retries + 1):
    try:
      return send()
    except Unavailable:
      if i == retries:
        raise
    # Half of the pause is chance, so that many clients do not come back at once.
    time.sleep(min(FIRST_WAIT * 2**i, LONGEST_WAIT) * random.uniform(0.5, 1))
  raise AssertionError(retries)
