"""The loss against its slow twin."""
import numpy as np
import tensorflow as tf

import references
from charlm.network import losses


def test_nats():
  logits, targets = np.random.default_rng(0).normal(size=(2, 3, 5)), np.array([[0, 1, 2], [3, 4, 0]])
  np.testing.assert_allclose(losses.nats(tf.constant(logits, tf.float32), targets), references.nats(logits, targets),
                             rtol=1e-5)
