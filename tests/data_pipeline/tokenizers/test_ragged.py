"""Rows joined in a graph."""
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.tokenizers.ragged import join_rows

ROW = st.lists(st.integers(0, 9), max_size=3)


@settings(deadline=None)
@given(st.lists(st.tuples(ROW, ROW), max_size=4), st.sampled_from([tf.int32, tf.int64]))
def test_join_rows(pairs, splits):
  first, second = ([list(pair[i]) for pair in pairs] for i in (0, 1))
  first, second = (tf.ragged.constant(rows, tf.int32, ragged_rank=1, row_splits_dtype=splits)
                   for rows in (first, second))
  assert join_rows(first, second).to_list() == [a + b for a, b in pairs]
