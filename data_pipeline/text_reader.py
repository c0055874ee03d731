"""Reads a text while a tokenizer consumes it: counts it, shows progress, and says where it is not UTF-8."""
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from data_pipeline.corpus.text import Text
from data_pipeline.tokenizers.base import InvalidText
from flags.errors import UserError

LARGE_BYTES = 50_000_000  # texts of at least this size show their progress


def count_characters(data: bytes) -> int:
  """How many UTF-8 characters start in `data`: its bytes that are not continuation bytes, 0x80 to 0xBF."""
  return int(np.count_nonzero(np.frombuffer(data, np.int8) >= -64))


class TextReader:
  """An iterable over the blocks of a text, and a context manager around what consumes them.

  The context turns InvalidText into a UserError that names the file and the offset in it.

  Attributes:
    text: the Text.
    head: its first block; empty before that is read.
    num_bytes: read so far.
    num_characters: read so far.
  """

  def __init__(self, text: Text, *, spec: str, action: str, progress: bool) -> None:
    """A reader for one pass over `text`.

    Args:
      text: what to read.
      spec: the --corpus that it is from, for error messages.
      action: what the bar says, such as 'tokenizing train'.
      progress: whether a large text shows a bar on standard error.
    """
    self.text, self._spec, self._action = text, spec, action
    self._progress = progress and text.num_bytes >= LARGE_BYTES
    self.num_bytes = self.num_characters = 0
    self.head = b''

  def __enter__(self) -> 'TextReader':
    return self

  def __iter__(self) -> Iterator[bytes]:
    import tqdm
    with tqdm.tqdm(total=self.text.num_bytes, desc=self._action, unit='B', unit_scale=True,
                   disable=not self._progress) as bar:
      for block in self.text.blocks():
        self.head = self.head or block
        self.num_bytes += len(block)
        self.num_characters += count_characters(block)
        yield block
        bar.update(len(block))

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
               trace: TracebackType | None) -> None:
    if isinstance(error, InvalidText):
      name, offset = self.text.locate(error.offset)
      raise UserError(
          f'--corpus={self._spec}: {name}: byte 0x{error.byte:02x} at offset {offset} is not UTF-8; '
          'expected UTF-8 text, or a model trained with --tokenizer=byte or --on_invalid=replace') from error
