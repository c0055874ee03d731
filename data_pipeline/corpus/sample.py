"""A sample of a large text: lines from places all along it, so that the rest need not be read."""
from collections.abc import Iterator

from data_pipeline.corpus.text import Text

RUN_BYTES = 1 << 14  # that are read at a place


def sample(text: Text, num_bytes: int) -> Iterator[bytes]:
  """About `num_bytes` of a text that has more, in whole lines where these are short, without bytes that are not UTF-8.

  Of what can only be read from its start, the beginning is taken, as much as of the rest.
  """
  count, taken, last = max(1, num_bytes // RUN_BYTES), 0, None
  for i in range(count):
    place = text.num_bytes * i // count
    part, start, _ = text.part_at(place)
    if not part.seeks:
      taken = taken + RUN_BYTES if part is last else 0
      place, last = max(start, 0) + taken, part
    run = text.read(place, place + RUN_BYTES)
    lines = run.partition(b'\n')[2].rpartition(b'\n')[0] or run
    yield lines.decode('utf-8', 'ignore').encode() + b'\n'
