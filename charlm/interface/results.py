"""What a model returns. The names are those of `charlm.client`."""
import math
from typing import NamedTuple

from charlm.interface.state import State


class Generated(NamedTuple):
  """A text that was written."""
  text: str  # without the prompt, and without a stop text
  num_tokens: int  # written, those of the stop text among them
  log_prob: float  # nats, of these tokens given the prompt, under the model itself, whatever the temperature
  stopped: bool  # by a stop text, and not by the length
  state: State  # after the last of these tokens


class Token(NamedTuple):
  """A token in its place."""
  text: str  # with U+FFFD for a part of a character
  bytes: bytes
  log_prob: float  # nats

  @property
  def probability(self) -> float:
    return math.exp(self.log_prob)


class Score(NamedTuple):
  """How likely a text is."""
  log_prob: float  # nats
  num_tokens: int
  num_bytes: int
  num_characters: int
  tokens: list[Token] | None  # where they were asked for

  @property
  def bits_per_byte(self) -> float:
    return -self.log_prob / math.log(2) / max(self.num_bytes, 1)

  @property
  def bits_per_character(self) -> float:
    return -self.log_prob / math.log(2) / max(self.num_characters, 1)
