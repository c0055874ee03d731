"""The texts of many prompts, as charlm-sample prints them: under titles, or as JSON."""
import codecs
import itertools
import json
import sys
from collections.abc import Collection, Iterator
from typing import NamedTuple

import tqdm

from charlm.generation.prompt_list import Item
from charlm.generation.terminal import show
from charlm.interface.model import Model
from charlm.interface.writing import Row
from flags.generation import SampleConfig

FORMS = {'text': ('', '', ''), 'json': ('[\n', ',\n', '\n]\n'), 'jsonl': ('', '\n', '\n')}  # begin, between, end


class Record(NamedTuple):
  """A text that was written, and where it belongs."""
  item: Item
  prompt: int  # of the list, from 1
  sample: int  # of the prompt, from 1
  row: Row

  @property
  def prompt_text(self) -> str:
    """Without a character that the prompt leaves unfinished."""
    return codecs.getincrementaldecoder('utf-8')('replace').decode(self.item.prompt.text)


def write(model: Model, config: SampleConfig, items: Collection[Item]) -> None:
  """Writes texts and prints them in order, each batch as soon as it is written.

  Args:
    model: what writes.
    config: what to write.
    items: what texts go on from, checked.

  Raises:
    UserError: the memory does not hold a text.
  """
  total = len(items) * config.num_samples
  hidden = not sys.stderr.isatty() or sys.stdout.isatty()  # a bar among texts is no help
  before, between, end = FORMS[config.output]
  with tqdm.tqdm(total=total, unit=' texts', leave=False, disable=hidden) as bar:
    for record in records(model, config, items):
      show(before + (_titled(record, config, len(items)) if config.output == 'text' else _json(record, config)))
      before = between
      bar.update()
  show(end)


def records(model: Model, config: SampleConfig, items: Collection[Item]) -> Iterator[Record]:
  """Writes texts. Of --best_of that are written for each, the likeliest is kept, by its mean log-probability per token.

  Of texts that a stop text ends, the sum would prefer the shortest. Args: as of `write`.
  """
  openings = (model.opening(item.prompt) for item in items)
  rows = (row for batch in model.write(config, openings, config.num_samples * config.best_of) for row in batch.rows)
  for number, item in enumerate(items, 1):
    for sample in range(1, config.num_samples + 1):
      yield Record(item, number, sample, max(itertools.islice(rows, config.best_of),
                                             key=lambda row: row.log_prob / row.num_tokens))


def _titled(record: Record, config: SampleConfig, prompts: int) -> str:
  """A text under a title, where there are several."""
  parts = [f'{name} {number} of {count}' for name, number, count in
           [('prompt', record.prompt, prompts), ('sample', record.sample, config.num_samples)] if count > 1]
  text = f'==> {", ".join(parts)} <==\n' * bool(parts) + record.prompt_text + record.row.text()
  return text + '\n' * (not text.endswith('\n'))


def _json(record: Record, config: SampleConfig) -> str:
  """A text as a JSON object. The keys of its prompt come first; where names are the same, they give way."""
  row = record.row
  own = {'prompt': record.prompt_text, 'text': row.text(), 'num_tokens': row.num_tokens, 'log_prob': row.log_prob,
         'sample': record.sample, 'seed': config.seed + record.prompt - 1,
         'finish_reason': 'stop' if row.stopped else 'length'}
  return json.dumps(record.item.keys | own)
