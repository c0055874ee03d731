"""Samples and answers of a served model, printed as they come."""
import sys
from collections.abc import Iterable
from typing import Any

from charlm.client.client import Client, Place
from charlm.client.transport import ServerError, Unavailable
from flags.generation import SampleConfig

LARGEST = 2**31 - 1  # of a 32-bit integer, as --top_k is on the server


def write_samples(client: Client, config: SampleConfig, prompt: bytes) -> None:
  """Prints texts that go on from the prompt: a single one as it is written, several once all are."""
  begun = prompt.decode('utf-8', 'replace')
  if config.num_samples == 1:
    place = client.read(prompt)
    last = _show(begun)
    for text, _ in client.write(place, max_new_tokens=config.length, seed=config.seed, **_sampling(config)):
      last = _show(text) or last
    _end(last)
    return
  seeds = [config.seed + (i << 32) for i in range(config.num_samples)]  # as charlm-sample has them without a server
  written = client.generate([prompt] * config.num_samples, max_new_tokens=config.length, seed=seeds,
                            **_sampling(config))
  for i, row in enumerate(written, 1):
    _end(_show(f'==> sample {i} of {len(written)} <==\n{begun}{row.text}'))


def interact(client: Client, config: SampleConfig, prompt: bytes, lines: Iterable[bytes]) -> None:
  """Answers each line; the state is carried on from line to line. An empty line lets the model go on. Ctrl-C ends an
  answer.

  Args:
    client: of the server.
    config: what to write.
    prompt: is read, and printed, before the first line, unless it is empty.
    lines: what the user types.
  """
  place = None
  if prompt:
    place = client.read(prompt)
    _show(prompt.decode('utf-8', 'replace') + '\n')
  for line in lines:
    try:
      place = _answer(client, config, client.read(line, place))
    except Unavailable:
      raise
    except ServerError as error:  # such as a line that is longer than the server takes
      print(error, file=sys.stderr)


def _answer(client: Client, config: SampleConfig, place: Place) -> Place:
  """Prints an answer -> the place after it, or after its last block that came before Ctrl-C."""
  try:
    for text, after in client.write(place, max_new_tokens=config.length, seed=config.seed, **_sampling(config)):
      _show(text)
      place = after
  except KeyboardInterrupt:
    client.close()  # an answer may be under way; the next request takes a new connection
  _show('\n')
  return place


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
