"""How a split is cut into rows, which are read in parallel: their length, their number, and how many chunks they have.

A split of N tokens has N - 1 targets. They are cut into B rows of equal length R; row b is targets b R + 1 to
(b + 1) R, so that each row is contiguous text. A chunk is T neighbouring tokens of every row. It is a pure function of
its offset in the rows, so that a run resumes from a number:

    T = 4, S = 4   x-x-x-x-x                 T = 4, S = 2   x-x-x-x-x
                           x-x-x-x-x                            x-x-x-x-x

Training reads the rows again and again, all of them in step, and starts each anew at every pass. In evaluation a row
goes on where the one before it ends, and each target counts once (`charlm/evaluation/scoring.py`):

    text   |--------------------------------|
    row 0  |==========|
    row 1             |==========|
    row 2                        |==========|
"""
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from data_pipeline.token_files import TokenFile
from flags.data import DataConfig
from flags.errors import UserError

# Of a row of evaluation, where --batch_size does not ask for more rows. A row's first tokens are read again, from the
# state in which the row before it ends; in models of the language reference and of Tiny Shakespeare 200 to 500 of them.
LEAST_EVALUATED = 2048


class Cursor(NamedTuple):
  """Where training is in its text."""
  epoch: int = 0  # passes finished
  offset: int = 0  # tokens from the start of the rows to the next chunk


@dataclasses.dataclass(frozen=True)
class Rows:
  """How a split is cut into rows."""
  num_tokens: int  # N
  batch_size: int  # B, the number of rows
  length: int  # R, targets in a row; the last rows may hold fewer
  unbroken: bool = False  # whether a row goes on from the state in which the one before it ends

  @property
  def filled(self) -> int:
    """How many rows hold targets."""
    return -(-(self.num_tokens - 1) // self.length)

  def steps(self, *, length: int, stride: int, offset: int = 0) -> int:
    """The number of chunks from `offset` to the end of the pass.

    Args:
      length: T, tokens in a chunk.
      stride: S, tokens from the start of one chunk to the start of the next.
      offset: tokens from the start of the rows.
    """
    return max(1, -(-(self.length - offset - length) // stride) + 1)

  def after(self, cursor: Cursor, *, length: int, stride: int) -> Cursor:
    """The cursor of the chunk that follows the one at `cursor`; `length` and `stride` as in `steps`."""
    if cursor.offset + length >= self.length:
      return Cursor(cursor.epoch + 1, 0)
    return Cursor(cursor.epoch, cursor.offset + stride)

  def epochs(self, cursor: Cursor) -> float:
    """Passes over the text so far, as a fraction."""
    return cursor.epoch + cursor.offset / self.length


def training_rows(num_tokens: int, batch_size: int) -> Rows:
  """The rows that a split of `num_tokens` is trained on."""
  return Rows(num_tokens, batch_size, length=-(-(num_tokens - 1) // batch_size))


def evaluation_rows(num_tokens: int, batch_size: int, length: int) -> Rows:
  """The rows that a split is evaluated on. Their length is a multiple of the chunk length.

  Args:
    num_tokens: N.
    batch_size: B.
    length: T, tokens in a chunk.
  """
  chunks = -(-(num_tokens - 1) // (batch_size * length))
  return Rows(num_tokens, batch_size, length=chunks * length, unbroken=True)


def evaluation_batch_size(num_tokens: int, most: int = 128) -> int:
  """How many rows to evaluate on, `most` at most: so few that reading their first tokens again costs little."""
  return max(1, min(most, -(-(num_tokens - 1) // LEAST_EVALUATED)))


def check_fits(config: DataConfig, files: Mapping[str, TokenFile]) -> None:
  """Checks that the splits are long enough for the rows and chunks asked for.

  Args:
    config: the batch size, the chunk lengths, and the shares of the splits.
    files: {split: TokenFile}.

  Raises:
    UserError: a split is too short, or there is no second document for --document_reset.
  """
  num_tokens = files['train'].num_tokens
  _check_training_split(config, num_tokens)
  if config.document_reset and files['train'].num_starts < 2:
    raise UserError(f'--document_reset: --corpus={config.corpus} has no second document to start at; expected several '
                    'files, a data set, or a --document_separator that is in the text')
  for split, share in (('valid', config.valid_fraction), ('test', config.test_fraction)):
    found = files[split].num_tokens if split in files else 0
    if found < 2 and (share or split in files):
      raise UserError(f'--{split}_fraction={share}: expected at least 2 tokens in the {split} split of '
                      f'--corpus={config.corpus}, found {found} (and {num_tokens} to train on). Ask for a larger '
                      'share, or 0')


def _check_training_split(config: DataConfig, num_tokens: int) -> None:
  """Raises UserError if each row has no room for a chunk of the longest length; names sizes that would fit."""
  targets, longest = num_tokens - 1, max(config.lengths)
  if targets >= config.batch_size * longest:
    return
  fits = 'more text'
  if targets >= config.batch_size:
    fits = f'--chunk_length={targets // config.batch_size} (with no longer --chunk_curriculum)'
  if targets >= longest:
    fits = f'--batch_size={targets // longest} or {fits}'
  raise UserError(f'--corpus={config.corpus}: its training split has {num_tokens} tokens; '
                  f'--batch_size={config.batch_size} chunks of {longest} tokens need '
                  f'{config.batch_size * longest + 1}. What would fit: {fits}')
