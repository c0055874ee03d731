"""Samples on the terminal, printed as they are written. Imports no TensorFlow."""
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from charlm.generation.prompts import Prompt, encode_user_prompt
from charlm.generation.text_stream import TextStream
from data_pipeline.tokenizers.base import Tokenizer
from flags.generation import SampleConfig

if TYPE_CHECKING:
  from charlm.generation.session import TimedSession

SHOW_EVERY = 64  # tokens; the text does not depend on it


def show(text: str) -> None:
  """Prints text at once."""
  sys.stdout.write(text)
  sys.stdout.flush()


def write_samples(session: 'TimedSession', tokenizer: Tokenizer, config: SampleConfig, prompt: Prompt) -> None:
  """Prints texts that go on from the prompt: the first as it is written, the others after it.

  Args:
    session: of --num_samples texts.
    tokenizer: the model's.
    config: what to write.
    prompt: is printed at the start of each text.
  """
  ids = encode_user_prompt(tokenizer, prompt)
  texts = [TextStream(tokenizer, config.stop, prompt.text) for _ in range(config.num_samples)]
  first, *others = [Printed(text, f'==> sample {i} of {len(texts)} <==\n' if len(texts) > 1 else '')
                    for i, text in enumerate(texts, 1)]
  first.show()
  state, left = session.read([ids]), config.length
  while left and not all(text.stopped for text in texts):
    tokens, _, state = session.write(min(SHOW_EVERY, left), state)
    left -= tokens.shape[1]
    for printed, row in zip((first, *others), tokens, strict=True):
      session.drop(len(row) - printed.take(row, stops=bool(config.stop)))
    first.show()
  for printed in (first, *others):
    printed.add(printed.text.end())
    printed.end()
    printed.show()


class Printed:
  """What is to be printed of a text, which is held back until it is shown.

  Attributes:
    text: the TextStream that it comes from.
  """

  def __init__(self, text: TextStream, title: str):
    self.text, self._parts, self._last = text, [title, text.prompt_text], text.prompt_text[-1:] or title[-1:]

  def take(self, row: Sequence[int], stops: bool) -> int:
    """Takes in tokens, up to a stop text if there may be one -> how many that were."""
    if not stops:
      self.add(self.text.push(row))
      return len(row)
    used = 0
    while used < len(row) and not self.text.stopped:
      self.add(self.text.push([row[used]]))
      used += 1
    return used

  def add(self, new: str) -> None:
    """Takes in what follows."""
    self._parts.append(new)
    self._last = new[-1:] or self._last

  def end(self) -> None:
    """Ends the last line, if that has no end."""
    self.add('\n' * (self._last != '\n'))

  def show(self) -> None:
    """Prints what has come since it was last shown."""
    show(''.join(self._parts))
    self._parts = []
