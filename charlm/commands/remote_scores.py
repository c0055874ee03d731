"""The texts of charlm-score, scored by a server. Imports no TensorFlow."""
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from charlm import client
from charlm.client.client import Score
from charlm.client.transport import ServerError
from charlm.evaluation import given_texts, surprise
from charlm.evaluation.given_texts import Given
from data_pipeline.corpus.account import shown
from flags.errors import RunError

REQUEST_BYTES, REQUEST_TEXTS = 2**16, 64  # of a request, unless a single text is longer


class ServedText(NamedTuple):
  """A text and its score: what is told of it, as of a `surprise.Span`."""
  text: Given
  score: Score

  def figures(self) -> dict[str, Any]:
    """As `surprise.Span.figures`."""
    one = self.score
    return surprise.figures(-one.log_prob, tokens=one.num_tokens, bytes=one.num_bytes, characters=one.num_characters)


def scored(found: Iterable[Given], server: str, model: str) -> Iterator[ServedText]:
  """Sends texts to a server, several short ones in a request, and waits for their scores.

  Args:
    found: the texts.
    server: its address.
    model: the server's name for it.

  Raises:
    UserError: a text cannot be read.
    RunError: the server refuses a text, such as one beyond its limits, or cannot be reached.
  """
  with client.Client(server, model=model) as connection:
    for group in _groups(found):
      try:
        scores = connection.score([data for _, data in group])
      except ServerError as error:
        more = f' and {len(group) - 1} more' if len(group) > 1 else ''
        raise RunError(f'{shown(group[0][0].name)}{more}: {error}') from error
      yield from (ServedText(given, score) for (given, _), score in zip(group, scores, strict=True))


def _groups(found: Iterable[Given]) -> Iterator[Sequence[tuple[Given, bytes]]]:
  """The texts and their bytes, as many in a group as a request holds."""
  group: list[tuple[Given, bytes]] = []
  size = 0
  for given in found:
    data = given_texts.read_bytes(given)
    if group and (size + len(data) > REQUEST_BYTES or len(group) == REQUEST_TEXTS):
      yield group
      group, size = [], 0
    group.append((given, data))
    size += len(data)
  if group:
    yield group
