"""What the scores of a text's tokens say of its lines and of its characters."""
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from charlm.evaluation.given_texts import TokenText
from data_pipeline.text_reader import count_characters

if TYPE_CHECKING:
  from charlm.evaluation.token_scores import TokenScores

BIT = math.log(2)  # nats


class Span(NamedTuple):
  """A run of whole tokens of a text, such as a line."""
  text: TokenText
  scores: 'TokenScores'
  first: int  # token
  end: int  # the token after it

  @property
  def data(self) -> bytes:
    """The bytes of the text."""
    return self.text.data[_offset(self.text, self.first):_offset(self.text, self.end)]

  def figures(self) -> dict[str, Any]:
    """The sums and the figures that people compare, {name: number}; None where they would be a share of nothing."""
    data = self.data
    return figures(float(self.scores.nats[self.first:self.end].sum(dtype=np.float64)), tokens=self.end - self.first,
                   bytes=len(data), characters=count_characters(data))

  def tokens(self) -> list[dict[str, Any]]:
    """The tokens one by one: what they stand for, U+FFFD where a character is not whole; their bytes; their bits."""
    edges = [_offset(self.text, self.first), *self.text.ends[self.first:self.end].tolist()]
    bits = np.round(self.scores.nats[self.first:self.end] / BIT, 4).tolist()
    return [{'text': self.text.data[a:b].decode(errors='replace'), 'bytes': b - a, 'bits': x}
            for a, b, x in zip(edges[:-1], edges[1:], bits, strict=True)]


def figures(nats: float, **counts: int) -> dict[str, Any]:
  """As `Span.figures`. counts: how many tokens, bytes and characters."""
  bits, of = nats / BIT, {name: count or math.nan for name, count in counts.items()}
  rates = {'bits_per_character': bits / of['characters'], 'bits_per_byte': bits / of['bytes'],
           'nats_per_token': nats / of['tokens']}
  return {'bits': bits, **{name: None if math.isnan(rate) else rate for name, rate in rates.items()}, **counts}


def whole(text: TokenText, scores: 'TokenScores') -> Span:
  """The text as one span."""
  return Span(text, scores, 0, len(text.ids))


def lines(span: Span) -> Iterator[Span]:
  """The lines of a whole text, each with the line end that it has. No token goes beyond a line end."""
  line_ends = np.flatnonzero(np.frombuffer(span.text.data, np.uint8) == ord('\n')) + 1
  edges = np.unique([0, *np.searchsorted(span.text.ends, line_ends) + 1, span.end]).tolist()
  yield from (span._replace(first=first, end=end) for first, end in itertools.pairwise(edges))


class Units(NamedTuple):
  """A text as the shortest runs of whole tokens that are whole characters."""
  characters: str  # of the text; a lone surrogate stands for each byte that is not UTF-8
  codes: np.ndarray  # [n] uint32, their code points
  ends: np.ndarray  # [M], how many characters there are up to the end of each unit
  first: np.ndarray  # [M], the first token of each
  bits: np.ndarray  # [M]


def units(span: Span) -> Units:
  """The units of a whole text."""
  characters = span.text.data.decode(errors='surrogateescape')
  codes = np.frombuffer(characters.encode('utf-32-le', 'surrogatepass'), '<u4')
  sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)  # in UTF-8
  sizes[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1
  character_ends = np.cumsum(sizes)
  common = np.intersect1d(character_ends, span.text.ends)
  first = np.append(0, np.searchsorted(span.text.ends, common[:-1]) + 1)
  bits = np.add.reduceat(span.scores.nats.astype(np.float64), first) / BIT
  return Units(characters, codes, np.searchsorted(character_ends, common) + 1, first, bits)


def _offset(text: TokenText, token: int) -> int:
  return int(text.ends[token - 1]) if token else 0
