"""charlm-score: says how surprising texts are to a model: each text, each line, each token."""
import collections
import contextlib
import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from charlm import client
from charlm.client.client import Score
from charlm.client.transport import ServerError, Unavailable
from charlm.commands import console
from charlm.evaluation import given_texts, page, surprise
from charlm.evaluation.surprise import Span
from charlm.workdir import layout
from data_pipeline.corpus.account import shown
from flags import typed
from flags.data import DataConfig
from flags.errors import RunError, UserError
from flags.score import ScoreConfig

if TYPE_CHECKING:
  from charlm.workdir.trained_model import TrainedModel

REQUEST_BYTES, REQUEST_TEXTS = 2**16, 64  # that a server is sent at once, unless a single text is longer
Group = Sequence[tuple[given_texts.Given, bytes]]  # texts and their bytes
HEADING = ' bits/char  bits/byte   characters        bytes       tokens  text'


def main(given: dict[str, Any]) -> None:
  """says how surprising texts are to a trained model: each text, each line, each token.

  charlm-score --workdir=runs/mine FILE...                     of each text; - is standard input
  charlm-score --workdir=runs/mine FILE... --sort              the most surprising lines first
  charlm-score --workdir=runs/mine FILE... --html=OUT.html     a page to look at
  charlm-score --server=http://localhost:8501 --model=mine FILE...

  FILE is a file, a folder or a glob, also compressed, as for charlm-train --corpus. Each text is
  scored by itself, after an empty prompt, so that all of its tokens count. With --server a served
  model does the work, and TensorFlow is not needed here.
  """
  files = given.pop('files')
  config = ScoreConfig(**given)
  if config.server:
    tell(config, scored_by_server(given_texts.find(files), config.server, config.model),
         {'server': config.server, 'model': config.model})
    return
  layout.read_config(config.workdir)
  found = given_texts.find(files)
  if config.html:
    page.check(config.html, found)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.workdir import trained_model
  opened = trained_model.load_model(config.workdir, config.weights, config.recurrence)
  separator = document_separator(given, opened.config.data)
  texts = scored(found, opened, separator, guesses=page.GUESSES if config.html else 0)
  if config.html:
    texts = page.written(config.html, texts, opened.tokenizer.pieces)
  with contextlib.closing(texts):  # a page that is not whole is gone before a failure is told
    tell(config, texts, {'workdir': typed.words(config.workdir), 'weights': opened.taken, 'step': opened.state['step']})


def document_separator(given: dict[str, Any], trained: DataConfig) -> bytes | None:
  """What ends documents inside a text, as of `given_texts.read`; as the model was trained where flags do not say.

  Args:
    given: the flags that were given.
    trained: how the model was trained.
  """
  config = ScoreConfig(**given)
  if not given.get('document_reset', trained.document_reset):
    if config.document_separator:
      raise UserError(f'--document_separator={typed.escaped(config.document_separator)} has no effect without '
                      '--document_reset: expected both, or a model that was trained with it')
    return None
  separator = given.get('document_separator', trained.document_separator)
  return separator.encode('utf-8', 'surrogateescape')


def scored(found: Sequence[given_texts.Given], opened: 'TrainedModel', separator: bytes | None,
           guesses: int) -> Generator[Span, None, None]:
  """Reads texts and scores them, a group of them at a time.

  Raises:
    UserError: a text cannot be read, or the memory does not hold it.
    RunError: a score is not finite.
  """
  from charlm.evaluation import scoring
  from charlm.evaluation.text_rows import Tokens
  from charlm.evaluation.token_scores import TokenScorer
  from charlm.network.runtime import memory_bytes
  waiting: collections.deque[given_texts.TokenText] = collections.deque()

  def read() -> Iterator[Tokens]:
    for given in found:
      text = given_texts.read(given, opened.tokenizer, separator=separator, memory=memory_bytes(),
                              on_invalid=opened.config.data.on_invalid)
      waiting.append(text)
      yield Tokens(text.ids, text.documents)

  scorer = TokenScorer(opened.model, opened.tokenizer, guesses=min(guesses, opened.tokenizer.vocab_size))
  for scores in scorer.scores(read(), scoring.progress_bar):
    text = waiting.popleft()
    if not np.isfinite(scores.nats).all():
      raise RunError(f'{shown(text.name)}: the model gives scores that are not finite; its weights are of no use')
    yield surprise.whole(text, scores)


class ServedText(NamedTuple):
  """A text and its score: what is told of it, as of a `surprise.Span`."""
  text: given_texts.Given
  score: Score

  def figures(self) -> dict[str, Any]:
    """As `surprise.Span.figures`."""
    one = self.score
    return surprise.figures(-one.log_prob, tokens=one.num_tokens, bytes=one.num_bytes, characters=one.num_characters)


def scored_by_server(found: Iterable[given_texts.Given], server: str, model: str) -> Iterator[ServedText]:
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
      scores = _scores(connection, group)
      yield from (ServedText(given, score) for (given, _), score in zip(group, scores, strict=True))


def _scores(connection: client.Client, group: Group) -> Iterable[Score]:
  """The scores of texts, sent together; one by one where the server refuses that, as each may be within its limits."""
  try:
    return connection.score([data for _, data in group])
  except ServerError as error:
    if len(group) > 1 and not isinstance(error, Unavailable):
      return itertools.chain.from_iterable(_scores(connection, [one]) for one in group)
    more = f' and {len(group) - 1} more' if len(group) > 1 else ''
    raise RunError(f'{shown(group[0][0].name)}{more}: {error}') from error


def _groups(found: Iterable[given_texts.Given]) -> Iterator[Group]:
  """The texts and their bytes, as many in a group as a request holds."""
  group: list[tuple[given_texts.Given, bytes]] = []
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


def tell(config: ScoreConfig, texts: Iterable[Any], model: dict[str, Any]) -> None:
  """Prints what the flags ask for. model: facts of it, {name: JSON value}."""
  told = records(config, texts)
  if config.output == 'jsonl':
    for kind, record in told:
      if kind == 'lines':
        print(json.dumps(record))
  elif config.output == 'json':
    by_kind: dict[str, list[Any]] = {'texts': [], **({'lines': []} if config.by_line else {}), 'total': []}
    for kind, record in told:
      by_kind[kind].append(record)
    print(json.dumps({**by_kind, 'total': by_kind['total'][0], **model}))
  else:
    number = 0
    for n, (kind, record) in enumerate(told):
      if not n:  # a failure at the first text has nothing before it
        print(HEADING)
      number += kind == 'texts'
      if kind != 'total' or number > 1:
        print(row(record))


def records(config: ScoreConfig, texts: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
  """What is told: (lines, texts or total; JSON object), lines before the text that they are of, the total last."""
  lines: list[dict[str, Any]] = []
  wholes: list[dict[str, Any]] = []
  totals: dict[str, Any] = dict.fromkeys(('bits', 'tokens', 'bytes', 'characters'), 0)
  for text in texts:
    own = (_record(line, config.tokens, line=number) for number, line in enumerate(
      surprise.lines(text) if config.by_line else (), 1))
    whole = _record(text, config.tokens and not config.by_line)
    totals = {name: value + whole[name] for name, value in totals.items()}
    if config.sort:
      lines += own
      wholes.append(whole)
    else:
      yield from (('lines', line) for line in own)
      yield 'texts', whole
  lines.sort(key=lambda line: -(line['bits_per_character'] or line['bits_per_byte']))
  yield from (('lines', line) for line in lines)
  yield from (('texts', whole) for whole in wholes)
  yield 'total', surprise.figures(totals.pop('bits') * surprise.BIT, **totals)


def _record(span: Span, tokens: bool, **line: int) -> dict[str, Any]:
  """line: the number of a line, whose text is told, too."""
  text = {'text': span.data.decode(errors='replace').removesuffix('\n')} if line else {}
  return {'file': span.text.name, **line, **text, **span.figures(),
          **({'token_scores': span.tokens()} if tokens else {})}


def row(record: dict[str, Any]) -> str:
  """A line of the table."""
  rates = ''.join(f'{record[name]:10.4f} ' if record[name] is not None else f'{"-":>10} '
                  for name in ('bits_per_character', 'bits_per_byte'))
  counts = ''.join(f'{record[name]:12,} ' for name in ('characters', 'bytes', 'tokens'))
  name = record.get('file', 'total')
  return shown(f'{rates}{counts} ' + (f'{name}:{record["line"]}: {record["text"]}' if 'line' in record else name))


run = console.command(main, ScoreConfig, operands='files')

if __name__ == '__main__':
  run()
