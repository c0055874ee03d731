"""Each row has a stream of random numbers of its own."""
import numpy as np
import tensorflow as tf

from charlm.generation.random_streams import ragged_numbers, random_numbers, row_seeds


def test_random_numbers_are_one_stream_per_seed():
  seeds = tf.constant([0, 1, 2**31, -1, 2**32], tf.int64)
  numbers = random_numbers(seeds, 0, 1000).numpy()[:, :, 0]
  assert numbers.min() >= 0 and numbers.max() < 1
  np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.05)
  np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(5), atol=0.15)
  for start, length in ((0, 1), (63, 2), (64, 64), (100, 500)):
    np.testing.assert_array_equal(random_numbers(seeds, start, length)[:, :, 0],
                                  numbers[start:start + length])


def test_row_seeds_start_with_the_seed_and_never_meet():
  assert row_seeds(17, 3)[0] == 17
  seeds = np.concatenate([row_seeds(seed, 50) for seed in (0, 1, 2, 2**31 - 1)])
  assert len(set(seeds.tolist())) == len(seeds)


def test_rows_that_take_different_numbers_get_those_of_their_streams():
  rows = [(3, 0, 5), (-2**63, 63, 66), (2**63 - 1, 200, 0), (3, 64, 64), (3, 1, 1)]
  seeds, starts, lengths = (tf.constant([row[i] for row in rows], dtype)
                            for i, dtype in enumerate((tf.int64, tf.int32, tf.int32)))
  numbers, begins = tf.function(ragged_numbers)(seeds, starts, lengths)
  streams = tf.function(random_numbers)(seeds, 0, 200)[:, :, 0].numpy()
  for i, ((_, start, length), begin) in enumerate(zip(rows, begins.numpy(), strict=True)):
    np.testing.assert_array_equal(numbers[begin:begin + length], streams[start:start + length, i])
