"""The byte tokenizer reads anything."""
import numpy as np

from hard_text import trained


def test_bytes_of_any_kind_round_trip_as_bytes():
  data = bytes(range(256)) + np.random.default_rng(0).bytes(1000)
  assert trained('byte').decode(trained('byte').encode(data)) == data
  assert trained('byte').decode_tf(trained('byte').encode_tf([data])).numpy().tolist() == [data]
