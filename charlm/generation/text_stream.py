"""Tokens to characters, as they come."""
import codecs
from collections.abc import Sequence
from typing import Any

from data_pipeline.tokenizers.base import Tokenizer


class TextStream:
  """Turns tokens into text. It never returns a part of a character, nor anything from the first stop text on.

  Attributes:
    stopped: whether a stop text has turned up.
    prompt_text: str, the prompt's text, without a character that the prompt leaves unfinished.
  """

  def __init__(self, tokenizer: Tokenizer, stop: str | Sequence[str] = (), prompt: bytes = b''):
    """Starts a text.

    Args:
      tokenizer: the model's.
      stop: the text ends before the first of these that turns up; they are not looked for in the prompt. None is within
        another.
      prompt: what the text goes on from; it may end within a character.
    """
    self.stopped = False
    self._tokenizer, self._held = tokenizer, ''
    self._stops = [text for text in ([stop] if isinstance(stop, str) else stop) if text]
    self._decode = codecs.getincrementaldecoder('utf-8')('replace').decode
    self.prompt_text = self._decode(prompt)

  def push(self, ids: Any) -> str:
    """Takes in tokens [N] -> what is now certain to be part of the text."""
    if self.stopped:
      return ''
    text = self._held + self._decode(self._tokenizer.decode(ids))
    found = [text.index(stop) for stop in self._stops if stop in text]
    self.stopped = bool(found)
    certain = min(found) if found else len(text) - self._stop_begun(text)
    self._held = text[certain:]
    return text[:certain]

  def _stop_begun(self, text: str) -> int:
    """The most characters at the end of `text` that may turn out to begin a stop text."""
    return max((n for stop in self._stops for n in range(min(len(stop), len(text) + 1)) if text.endswith(stop[:n])),
               default=0)

  def end(self) -> str:
    """Ends the text -> what was held back. A character that the last token left unfinished is left out."""
    return '' if self.stopped else self._held
