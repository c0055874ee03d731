"""The loop that writes: rows that are done leave it."""
import pytest
import tensorflow as tf

from charlm.serving.requests import Options
from charlm.serving.stops import Stops
from charlm.serving.writing import write


def rows_in_each_step(served, counts, stops=()):
  """How many rows the model reads in each step, and what is written, at temperature 0."""
  reader, rows, size = served.model.reader(), [], len(counts)

  def read(tokens, state, packing=None):
    rows.append(int(tf.size(tokens)))
    return reader.read(tokens, state, packing)

  options = Options(tf.constant(counts, tf.int32), tf.zeros(size), tf.zeros(size, tf.int32), tf.ones(size),
                    tf.range(size, dtype=tf.int64), tf.zeros(size, tf.int32))
  state = tf.nest.map_structure(lambda s: s * tf.linspace(1.0, -1.0, size)[:, None], served.model.initial_state(size))
  written = write(reader._replace(read=read), Stops(stops, served.tokenizer.pieces), state, tf.zeros(size, tf.int32),
                  options)
  return rows, written.tokens.to_list()


@pytest.mark.parametrize('counts, wanted', [([3, 0, 7, 1], [3, 2, 2, 1, 1, 1, 1]), ([2, 2], [2, 2])])
def test_work_follows_the_length_of_each_row(serve, counts, wanted):
  rows, tokens = rows_in_each_step(serve('byte'), counts)
  assert rows == wanted and [len(row) for row in tokens] == counts


def test_rows_that_have_stopped_leave(serve):
  _, free = rows_in_each_step(serve('byte'), [9, 9, 9])
  stop = bytes(free[1][4:6])
  rows, tokens = rows_in_each_step(serve('byte'), [9, 9, 9], [stop])
  ends = [next((i + 2 for i in range(8) if bytes(row[i:i + 2]) == stop), 9) for row in free]
  assert [len(row) for row in tokens] == ends and min(ends) < 9
  assert rows == [sum(end > t for end in ends) for t in range(max(ends))]
