"""Samples and answers of a served model, printed as they come."""
import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from charlm.client.client import Client, Place
from charlm.client.transport import ServerError, Unavailable
from flags.errors import UserError
from flags.generation import SampleConfig

LARGEST = 2**31 - 1  # of a 32-bit integer, as --top_k is on the server


def write_samples(client: Client, config: SampleConfig, prompt: bytes) -> None:
  """Prints texts that go on from the prompt, one after the other, each as it is written.

  A single request for all would end at the server's limit of tokens.
  """
  begun = prompt.decode('utf-8', 'replace')
  place = client.read(prompt)
  for i in range(config.num_samples):
    last = _show((f'==> sample {i + 1} of {config.num_samples} <==\n' if config.num_samples > 1 else '') + begun)
    seed = config.seed + (i << 32)  # as charlm-sample has them without a server
    for text, _ in client.write(place, max_new_tokens=config.length, seed=seed, **_sampling(config)):
      last = _show(text) or last
    _end(last)


class Text(Protocol):
  """A text that is to be read."""

  @property
  def text(self) -> bytes:
    """Itself."""


class Refused(ServerError):
  """The server is there, but did not take a line, such as one that is too long for it."""


class ServerWriter:
  """Reads and answers by a server, as a `Writer` of `generation.conversation`. A state is a `Place`."""
  settings, told = ('temperature', 'top_k', 'top_p', 'length', 'seed'), (UserError, Refused)

  def __init__(self, client: Client):
    self._client = client

  def read(self, prompt: Text, state: Place | None) -> Place:
    """As `Writer.read`."""
    with _refusals():
      return self._client.read(prompt.text, state)

  def answer(self, state: Place, config: SampleConfig) -> Place:
    """As `Writer.answer`; after Ctrl-C the state is that after the last block that came before."""
    try:
      with _refusals():
        for text, after in self._client.write(state, max_new_tokens=config.length, seed=config.seed,
                                              **_sampling(config)):
          _show(text)
          state = after
    except KeyboardInterrupt:
      self._client.close()  # an answer may be under way; the next request takes a new connection
    return state

  def change(self, **_: Any) -> None:
    """Does nothing: options go out with each request."""


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
  """Tells what the server did not take from its absence, which ends the program."""
  try:
    yield
  except Unavailable:
    raise
  except ServerError as error:
    raise Refused(str(error)) from error


def _sampling(config: SampleConfig) -> dict[str, Any]:
  return {'temperature': config.temperature, 'top_k': min(config.top_k, LARGEST), 'top_p': config.top_p}


def _show(text: str) -> str:
  """-> the last character."""
  sys.stdout.write(text)
  sys.stdout.flush()
  return text[-1:]


def _end(last: str) -> None:
  """Ends the last line, if that has no end."""
  if last != '\n':
    _show('\n')
