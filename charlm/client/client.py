"""A client of a served model: writes text, says how likely texts are, and streams."""
import codecs
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from charlm.client.rest import RestTransport
from charlm.client.transport import Columns, Transport, foreign
from flags.errors import UserError

BLOCK = 16  # tokens that a request of `stream` asks for
HALVES = re.compile('[\ud800-\udfff]')  # of characters, which no text has


class Generated(NamedTuple):
  """What the server wrote."""
  text: str  # without the prompt
  num_tokens: int
  log_prob: float  # nats, of what was written given the prompt


class Score(NamedTuple):
  """How likely a text is."""
  log_prob: float  # nats
  num_tokens: int
  num_bytes: int
  num_characters: int

  @property
  def bits_per_byte(self) -> float:
    return -self.log_prob / math.log(2) / max(self.num_bytes, 1)

  @property
  def bits_per_character(self) -> float:
    return -self.log_prob / math.log(2) / max(self.num_characters, 1)


class Place(NamedTuple):
  """Where a text stands that is read and written call by call. The server keeps nothing of it."""
  state: list[Any]  # of the model, a row of numbers
  written: int  # tokens so far, for the random numbers


class Client:
  """A connection to a served model. Use it as a context manager, or call `close`."""

  def __init__(self, server: str, *, model: str = 'charlm', version: int = 0, timeout: float = 60,
               retries: int = 5) -> None:
    """Connects with the first request.

    Args:
      server: http://HOST:PORT, https://..., or grpc://HOST:PORT.
      model: the name that the server has for it.
      version: of the model; 0 is the newest.
      timeout: seconds that one request may take.
      retries: how often a request is sent again, after longer and longer pauses, while the server is unavailable.

    Raises:
      UserError: `server` is no such address, `model` is no text, or gRPC is not installed.
    """
    self._transport = _transport(server, model, version, timeout, retries)

  def __enter__(self) -> 'Client':
    return self

  def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
    self.close()

  def close(self) -> None:
    """Ends the connection."""
    self._transport.close()

  def generate(self, prompts: Sequence[str | bytes], *, max_new_tokens: int = 200, temperature: float = 0.8,
               top_k: int = 0, top_p: float = 1.0, seed: int | Sequence[int] = 0) -> list[Generated]:
    """Goes on from prompts, all in one request.

    Args:
      prompts: texts to go on from; the empty one starts afresh.
      max_new_tokens: how many tokens to write for each.
      temperature, top_k, top_p: as of charlm-sample.
      seed: of the first, the others have the next ones; or one for each.

    Raises:
      ServerError: the server refused the request, or could not be reached in time.
    """
    _check_prompts(prompts)
    seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else [*seed]
    options = _options(len(prompts), temperature, top_k, top_p, seeds)
    found = self._call('generate', {'prompt': prompts, 'max_new_tokens': [max_new_tokens] * len(prompts), **options},
                       'text', 'num_tokens', 'log_prob')
    return [Generated(*row) for row in zip(found['text'], found['num_tokens'], found['log_prob'], strict=True)]

  def score(self, texts: Sequence[str | bytes]) -> list[Score]:
    """Says how likely texts are, each by itself, all in one request. Raises ServerError as `generate` does."""
    _check_prompts(texts)
    names = Score._fields
    found = self._call('score', {'text': texts}, *names)
    return [Score(*row) for row in zip(*(found[name] for name in names), strict=True)]

  def stream(self, prompt: str | bytes = '', *, max_new_tokens: int = 200, temperature: float = 0.8, top_k: int = 0,
             top_p: float = 1.0, seed: int = 0, block: int = BLOCK) -> Iterator[str]:
    """Goes on from a prompt, block by block: the text of `generate` with the same options and seed, as it is written.

    The server keeps nothing between blocks: the state of the text comes back with each and goes out with the next. So
    a stream that is left early (`close`, or the end of its loop) costs the server no more than one block.

    Args:
      prompt, max_new_tokens, temperature, top_k, top_p, seed: as of `generate`.
      block: tokens that one request asks for. Larger ones are faster in all, smaller ones come sooner.

    Raises:
      ServerError: as `generate` does.
    """
    place = self.read(prompt)
    for text, _ in self.write(place, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
                              seed=seed, block=block):
      if text:
        yield text

  def read(self, prompt: str | bytes, place: Place | None = None) -> Place:
    """Reads a text, by itself or after what led to a place. Raises ServerError as `generate` does."""
    _check_prompts([prompt])
    if place is None:
      return Place(self._call('prefill', {'prompt': [prompt]}, 'state')['state'], 0)
    return Place(self._call('append', {'prompt': [prompt], 'state': place.state}, 'state')['state'], place.written)

  def write(self, place: Place, *, max_new_tokens: int = 200, temperature: float = 0.8, top_k: int = 0,
            top_p: float = 1.0, seed: int = 0, block: int = BLOCK) -> Iterator[tuple[str, Place]]:
    """Goes on from a place, block by block: arguments and errors as of `stream`. -> texts, which may be empty, and the
    place after each.
    """
    if block < 1:
      raise UserError(f'block={block}: expected at least 1')
    options, decoder = _options(1, temperature, top_k, top_p, [seed]), codecs.getincrementaldecoder('utf-8')('replace')
    count, left = block, max_new_tokens
    while count:
      count = min(block, left)  # at last 0, for what was held back because of a stop text
      found = self._call('continue', {'state': place.state, 'position': [place.written], 'max_new_tokens': [count],
                                      **options}, 'state', 'text_bytes', 'num_tokens')
      written = found['num_tokens'][0]
      if written > count:
        raise foreign(f'the answer to continue: expected at most {count} tokens, found {written}')
      place, left = Place(found['state'], place.written + written), left - written
      yield decoder.decode(found['text_bytes'][0]), place
      if not written:  # a stop text has ended it; a block that is only short may be so by the server's limit
        return

  def _call(self, signature: str, inputs: Mapping[str, Sequence[Any]], *outputs: str) -> Columns:
    """Asks for a signature whose answer must have these outputs, a value for each row, of the type of its name."""
    found, rows = self._transport.call(signature, inputs), len(next(iter(inputs.values())))
    wrong = [name for name in outputs if len(found.get(name, [])) != rows]
    if wrong:
      raise foreign(f'the answer to {signature} for {rows} rows: expected {rows} values of {wrong[0]}, found '
                    f'{len(found.get(wrong[0], []))}')
    for name in outputs:
      expected, fits = CHECKS.get(name, COUNT)
      for value in found[name]:
        if not fits(value):
          raise foreign(f'the answer to {signature}: expected {expected} as {name}, found {str(value)[:40]!r}')
    return found


def _transport(server: str, model: str, version: int, timeout: float, retries: int) -> Transport:
  if server.startswith('grpc://'):
    from charlm.client.grpc import GrpcTransport
    return GrpcTransport(server, model, version=version, timeout=timeout, retries=retries)
  return RestTransport(server, model, version=version, timeout=timeout, retries=retries)


def _is_number(value: Any) -> bool:
  """Whether it is a finite one."""
  return type(value) in (int, float) and abs(value) <= sys.float_info.max


COUNT: tuple[str, Callable[[Any], bool]] = 'a count', lambda value: type(value) is int and value >= 0
CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # {output: what each value is, whether one is that}
  'text': ('text', lambda value: isinstance(value, str) and not HALVES.search(value)),
  'text_bytes': ('bytes', lambda value: isinstance(value, bytes)),
  'log_prob': ('a finite number', _is_number),
  'state': ('a list of finite numbers', lambda value: isinstance(value, list) and all(map(_is_number, value)))}


def _check_prompts(texts: Sequence[str | bytes]) -> None:
  if isinstance(texts, (str, bytes)):
    raise UserError(f'{texts[:20]!r}: expected a list of texts')


def _options(rows: int, temperature: float, top_k: int, top_p: float, seeds: list[int]) -> dict[str, list[Any]]:
  return {'temperature': [float(temperature)] * rows, 'top_k': [top_k] * rows, 'top_p': [float(top_p)] * rows,
          'seed': seeds}
