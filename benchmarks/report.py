"""The arithmetic of the figures, and the table that they stand in."""
from typing import NamedTuple


class Pair(NamedTuple):
  """A figure of the best of several runs, and of their median."""
  best: float
  median: float

  def __str__(self):
    return ' / '.join(dict.fromkeys(map(number, self)))


class Goal(NamedTuple):
  sign: str  # '>=' or '<='
  value: float

  def __str__(self):
    return f'{self.sign} {self.value:g}'

  def met(self, figure):
    """A Pair -> 'yes', 'no', or which of the two meets it."""
    best, median = (f >= self.value if self.sign == '>=' else f <= self.value for f in figure)
    return {(True, True): 'yes', (True, False): 'best only', (False, True): 'median only', (False, False): 'no'}[
        best, median]


class Row(NamedTuple):
  """One line of the table. `judged` is what the goal is for: charlm's own figure where None."""
  work: str
  ours: Pair
  peer: str = ''
  theirs: Pair | None = None
  judged: Pair | None = None
  goal: Goal | None = None

  @property
  def met(self):
    return self.goal.met(self.judged or self.ours) if self.goal else ''

  def asdict(self):
    pairs = {name: pair and pair._asdict() for name, pair in self._asdict().items()
             if name in ('ours', 'theirs', 'judged')}
    return {**self._asdict(), **pairs, 'goal': self.goal and str(self.goal), 'met': self.met}


HEADINGS = ('work', 'charlm, best / median', 'beside', 'its best / median', 'ratio', 'goal', 'met?')


def table(rows):
  """Rows -> Markdown."""
  return grid(HEADINGS, [(r.work, r.ours, r.peer, r.theirs, r.judged, r.goal, r.met) for r in rows])


def grid(headings, lines):
  """Cells of any kind, None for nothing -> a Markdown table, its columns aligned."""
  cells = [list(map(str, headings))] + [['' if c is None else str(c) for c in line] for line in lines]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  cells.insert(1, ['-' * width for width in widths])
  return '\n'.join('| ' + ' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + ' |' for line in cells)


def number(value):
  """Three digits, or as many as there are before the point."""
  size = abs(value)
  return f'{value:,.0f}' if size >= 100 else f'{value:.1f}' if size >= 10 else f'{value:.2f}'


def median(numbers):
  ordered = sorted(numbers)
  return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def least(numbers):
  """Of seconds or megabytes."""
  return Pair(min(numbers), median(numbers))


def speed(work):
  """What a measured `alternation.Work` gets through in a second."""
  return Pair(work.count / min(work.seconds), work.count / median(work.seconds))


def fastest(speeds):
  """The best of each kind."""
  return Pair(*map(max, zip(*speeds, strict=True)))


def ratio(a, b):
  return Pair(a.best / b.best, a.median / b.median)


def difference(a, b):
  return Pair(a.best - b.best, a.median - b.median)


def spread(figures):
  """The largest distance from the mean, as a share of it, of each kind."""
  def share(numbers):
    mean = sum(numbers) / len(numbers)
    return max(abs(n - mean) for n in numbers) / mean

  return Pair(*map(share, zip(*figures, strict=True)))


def training_flops(*, units, layers, vocab_size, embedding_size, batch_size, chunk_length, input_units, input_layers,
                   maps=3):
  """Floating point operations of all matrix products of a training step, per token.

  A multiply-add is two operations, and each product comes with two more in the gradient. The first layer's input
  depends on the token alone, so that its maps are taken for a vocabulary per step and not for each token.
  """
  sizes = [embedding_size] + [input_units] * input_layers
  table = sum(n * input_units for n in sizes[:-1]) + sizes[-1] * maps * units
  recurrent = (2 * layers - 1) * maps * units**2
  return 6 * (recurrent + units * vocab_size + table * vocab_size / (batch_size * chunk_length))
