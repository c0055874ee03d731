"""What a corpus is made of, in one line: how much was read, and what was left out and why."""
import collections
import os
from collections.abc import Mapping
from typing import NamedTuple


class Account(NamedTuple):
  """How much a corpus has, and what it lacks."""
  number: int
  unit: str  # what is counted, such as 'file'
  left_out: Mapping[str, str] = {}  # {name: why}

  def line(self, num_bytes: int) -> str:
    """'12 files, 3.1 MB of text; left out: 2 (first: b.txt, UTF-16)'. num_bytes: of the text, unpacked."""
    count = f'{self.number:,} {self.unit}{"s" * (self.number != 1)}'
    return '; '.join(filter(None, [f'{count}, {size_words(num_bytes)} of text', self.what_is_left_out()]))

  def what_is_left_out(self) -> str:
    """'left out: 2 (first: b.txt, UTF-16)', and how many for each reason where there are several; '' for nothing."""
    if not self.left_out:
      return ''
    first = min(self.left_out)
    reasons = collections.Counter(self.left_out.values()).most_common()
    counts = ': ' + ', '.join(f'{why} ({count:,})' for why, count in reasons) if len(reasons) > 1 else ''
    return f'left out: {len(self.left_out):,} (first: {shown(first)}, {self.left_out[first]}){counts}'


def shown(path: str) -> str:
  """A path as it is shown in one line, whatever is in its name."""
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(path))


def size_words(num_bytes: int) -> str:
  """'3.1 MB'"""
  for unit, size in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
    if num_bytes >= size:
      return f'{num_bytes / size:,.1f} {unit}'
  return f'{num_bytes} byte{"s" * (num_bytes != 1)}'
