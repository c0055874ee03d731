"""Cuts long texts into parts that are read side by side, as if each text were read in one piece.

A step of the loop over tokens takes about as long for sixteen rows as for one, because its operations, and not their
arithmetic, take the time. So the parts of a text are read as rows, in segments of tokens:

    first    |=====part 0====|=====part 1====|=====part 2====|    parts 1 and 2 begin in the state of an empty text
    again                    |===            |===                 from where the part before ended; the rest stays

A text is settled where its parts, read again, come to the same states and the same losses as before; then the rest of
each part stays as it was read (`charlm/evaluation/scoring.py` has the method and its tolerances). Where a model
remembers for longer than a part, it is read once more, at most as often as there are parts, which is exact.

What is read of a text depends on that text alone, whatever else is in the request.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from charlm.evaluation.scoring import NATS_TOLERANCE

PART_TOKENS, MOST_PARTS = 2048, 32  # a part has at least so many tokens; a text is cut into at most so many parts
SEGMENT = 64  # tokens, after which two readings are compared

nest = tf.nest.map_structure


class Parts(NamedTuple):
  """Parts of texts, those of a text one after the other."""
  text: tf.Tensor  # [P] int32, which text it is of
  index: tf.Tensor  # [P] int32, which part of it
  first: tf.Tensor  # [P] int32, where in the flat tokens it begins
  length: tf.Tensor  # [P] int32
  count: tf.Tensor  # [P] int32, how many its text has


# (parts, segment, which [P] bool, state) -> states after it, sums of losses [P]
ReadSegment = Callable[[Parts, tf.Tensor, tf.Tensor, Any], tuple[Any, tf.Tensor]]


def cut(lengths: tf.Tensor) -> Parts:
  """Texts of these lengths [B] -> their parts, at least one of each."""
  counts = tf.clip_by_value(lengths // PART_TOKENS, 1, MOST_PARTS)
  text, index = tf.repeat(tf.range(tf.size(counts)), counts), tf.ragged.range(counts).values
  whole, own = tf.gather(lengths, text), -tf.gather(-lengths // counts, text)  # rounded up
  first = tf.gather(tf.cumsum(lengths, exclusive=True), text) + index * own
  return Parts(text, index, first, tf.minimum(own, whole - index * own), tf.gather(counts, text))


def segment_of(parts: Parts, s: tf.Tensor, which: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Segment `s` of the parts for which `which` [P] is true -> tokens of each [P]; their places in the flat tokens."""
  lengths = tf.where(which, tf.clip_by_value(parts.length - s * SEGMENT, 0, SEGMENT), 0)
  first = parts.first + s * SEGMENT
  return lengths, tf.ragged.range(first, first + lengths).values


def read(segment: ReadSegment, lengths: tf.Tensor, state: Any, state_tolerance: float) -> tuple[Any, tf.Tensor]:
  """Reads texts.

  Args:
    segment: reads a segment of parts.
    lengths: [B] int32, tokens of each text.
    state: before the texts, a nest of [B, H].
    state_tolerance: of two readings that agree, as a share of their states (root mean square).

  Returns:
    The states after each text; the sums of their losses, [B] float64.
  """
  parts, rows = cut(lengths), tf.size(lengths)
  steps = -(-tf.reduce_max(tf.concat([parts.length, [0]], 0)) // SEGMENT)
  again = tf.where(parts.count > 1)
  begins = nest(lambda s: tf.gather(s, parts.text), state)
  ends, losses, kept = _first(segment, parts, steps, begins, again)
  some, begun, found = nest(lambda value: tf.gather_nd(value, again), (parts, begins, (ends, losses)))
  settled = _settle(segment, some, rows, steps, begun, found, kept, state_tolerance)
  ends, losses = nest(lambda all_parts, own: tf.tensor_scatter_nd_update(all_parts, again, own),
                      (ends, losses), settled)
  last = tf.where(tf.equal(parts.index, parts.count - 1))
  return nest(lambda s: tf.gather_nd(s, last), ends), tf.math.unsorted_segment_sum(losses, parts.text, rows)


def _first(segment: ReadSegment, parts: Parts, steps: tf.Tensor, begins: Any,
           again: tf.Tensor) -> tuple[Any, tf.Tensor, Any]:
  """-> the states after each part, their losses [P], and of the parts `again` arrays of both after each segment."""
  every, losses = tf.ones_like(parts.text, tf.bool), tf.zeros(tf.shape(parts.text), tf.float64)
  kept = nest(lambda s: tf.TensorArray(s.dtype, steps, element_shape=[None, *s.shape[1:]], clear_after_read=False,
                                       infer_shape=False), (begins, losses))

  def body(s: tf.Tensor, now: Any, losses: tf.Tensor, kept: Any) -> tuple:
    now, new = segment(parts, s, every, now)
    return s + 1, now, losses + new, nest(lambda array, v: array.write(s, tf.gather_nd(v, again)), kept, (now, new))

  return tf.while_loop(lambda s, *_: s < steps, body, (tf.constant(0), begins, losses, kept))[1:]


def _settle(segment: ReadSegment, parts: Parts, rows: tf.Tensor, steps: tf.Tensor, begins: Any,
            found: tuple[Any, tf.Tensor], kept: Any, tolerance: float) -> tuple[Any, tf.Tensor]:
  """Reads parts again, each from the state after the one before it, until their texts are settled.

  Args:
    segment, steps, begins: as in `_first`.
    parts: of texts that have several.
    rows: how many texts there are.
    found: the states after each part, and their losses.
    kept: arrays of both after each segment.
    tolerance: as of `read`.

  Returns:
    As `found`.
  """
  counts = tf.math.unsorted_segment_max(parts.count, parts.text, rows)
  later = parts.index[:, None] > 0

  def reading(r: tf.Tensor, open_texts: tf.Tensor, ends: Any, losses: tf.Tensor, kept: Any) -> tuple:
    now = nest(lambda begin, end: tf.where(later, tf.roll(end, 1, 0), begin), begins, ends)
    loop = tf.constant(0), open_texts, now, losses, kept, tf.zeros([rows], tf.float64)
    body = _comparison(segment, parts, rows, parts.index >= r, tolerance)
    _, open_texts, now, losses, kept, _ = tf.while_loop(
      lambda s, texts, *_: tf.logical_and(s < steps, tf.reduce_any(texts)), body, loop)
    read = tf.logical_and(tf.gather(open_texts, parts.text), parts.index >= r)[:, None]
    ends = nest(lambda new, old: tf.where(read, new, old), now, ends)
    return r + 1, tf.logical_and(open_texts, counts > r + 1), ends, losses, kept

  loop = tf.constant(1), counts > 1, *found, kept
  return tf.while_loop(lambda _, texts, *__: tf.reduce_any(texts), reading, loop)[2:4]


def _comparison(segment: ReadSegment, parts: Parts, rows: tf.Tensor, unread: tf.Tensor,
                tolerance: float) -> Callable[..., tuple]:
  """The body of the loop over segments that reads again the parts `unread` of texts that are not settled."""
  def of_text(values: tf.Tensor) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(values, parts.text, rows)

  longest = tf.math.unsorted_segment_max(parts.length, parts.text, rows)

  def body(s: tf.Tensor, texts: tf.Tensor, now: Any, losses: tf.Tensor, kept: Any, rate: tf.Tensor) -> tuple:
    read = tf.logical_and(tf.gather(texts, parts.text), unread)
    now, new = segment(parts, s, read, now)
    before, old = nest(lambda array: array.read(s), kept)
    new = tf.where(read, new, old)
    differ = [of_text(tf.reduce_sum(tf.square(tf.where(read[:, None], a - b, 0.0)), 1)) >
              tolerance**2 * of_text(tf.reduce_sum(tf.square(a), 1))
              for a, b in zip(*map(tf.nest.flatten, (now, before)), strict=True)]
    # As in `scoring.settle`: nats that would change in a part of which all segments differ as much as this one.
    rate = tf.maximum(tf.abs(of_text(new - old)), rate / 4)
    change = rate * tf.cast(of_text(parts.length) / of_text(tf.ones_like(parts.length)) / SEGMENT, tf.float64)
    differ.append(change > NATS_TOLERANCE * tf.cast(of_text(parts.length), tf.float64))
    differ.append(s * SEGMENT >= longest)  # nothing was read
    values = nest(lambda a, b: tf.where(read[:, None], a, b), now, before), new
    kept = nest(lambda array, v: array.write(s, v), kept, values)
    return s + 1, tf.logical_and(texts, tf.reduce_any(differ, 0)), now, losses + new - old, kept, rate

  return body
