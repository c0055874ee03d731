"""Tokens to characters, as they come."""
import codecs
from typing import Any

from data_pipeline.tokenizers.base import Tokenizer


class TextStream:
  """Turns tokens into text. It never returns a part of a character, nor anything from the stop string on.

  Attributes:
    stopped: whether the stop string has turned up.
    prompt_text: str, the prompt's text, without a character that the prompt leaves unfinished.
  """

  def __init__(self, tokenizer: Tokenizer, stop: str = '', prompt: bytes = b''):
    """Starts a text.

    Args:
      tokenizer: the model's.
      stop: the text ends before this string, which is not looked for in the prompt; '' never stops.
      prompt: what the text goes on from; it may end within a character.
    """
    self.stopped = False
    self._tokenizer, self._stop, self._held = tokenizer, stop, ''
    self._decode = codecs.getincrementaldecoder('utf-8')('replace').decode
    self.prompt_text = self._decode(prompt)

  def push(self, ids: Any) -> str:
    """Takes in tokens [N] -> what is now certain to be part of the text."""
    if self.stopped:
      return ''
    text = self._held + self._decode(self._tokenizer.decode(ids))
    before, found, _ = text.partition(self._stop) if self._stop else (text, '', '')
    self.stopped = bool(found)
    held = 0 if found else self._stop_begun(text)
    self._held = text[len(text) - held:]
    return before[:len(before) - held]

  def _stop_begun(self, text: str) -> int:
    """The most characters at the end of `text` that may turn out to begin the stop string."""
    return max(n for n in range(len(self._stop) or 1) if text.endswith(self._stop[:n]))

  def end(self) -> str:
    """Ends the text -> what was held back. A character that the last token left unfinished is left out."""
    return '' if self.stopped else self._held
