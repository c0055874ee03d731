"""Rollouts: where they lie in a chunk, as the drawing in rollout.py has it, and what the model reads in them."""
import numpy as np
import tensorflow as tf

from charlm.generation import rollout
from charlm.generation.categorical import sample_categorical
from data_pipeline.streams import Batch
from step_functions import TABLE, V, chain

B, T, K = 2, 7, 3
TOKENS = np.random.default_rng(1).integers(0, V, [B, T + 1]).astype('int32')
SUMS = np.cumsum(TOKENS[:, :-1], 1).T[:, :, None].astype('float32')  # the states of `chain`, [T, B, 1]


def plan(steps=K, stride=None, starts=None):
  batch = Batch(tf.constant(TOKENS), tf.zeros([B], tf.bool), tf.ones([B, T]), starts)
  logits = TABLE[TOKENS[:, :-1]] + np.sin(SUMS).transpose(1, 0, 2)
  return rollout.plan(batch, [tf.constant(SUMS)], tf.constant(logits), steps, stride)


def step(x, state):
  """`chain`, with a state of one layer."""
  logits, after = chain(x, state[0])
  return logits, [after]


def test_rollouts_lie_where_the_drawing_has_them():
  rollouts = plan()
  for p, b in np.ndindex(2, B):
    row, first = p * B + b, p * K
    np.testing.assert_array_equal(rollouts.state[0][row], SUMS[first, b])
    np.testing.assert_array_equal(rollouts.inputs[:, row], TOKENS[b, first + 1:first + 1 + K])
    np.testing.assert_array_equal(rollouts.targets[:, row], TOKENS[b, first + 2:first + 2 + K])
  assert rollouts.starts is None and rollouts.weight.numpy().all()


def test_targets_after_the_chunk_have_no_weight():
  weight = plan(4).weight.numpy()
  assert weight.sum(0).tolist() == [4, 4, 2, 2] and weight[:2].all()


def test_a_stride_leaves_targets_between_rollouts_out():
  rollouts = plan(2, stride=3)
  np.testing.assert_array_equal(rollouts.targets[:, 0], TOKENS[0, 2:4])
  np.testing.assert_array_equal(rollouts.targets[:, B], TOKENS[0, 5:7])


def test_the_model_reads_its_samples_where_it_is_told_to_and_true_tokens_elsewhere():
  rollouts = plan()
  rows = rollouts.logits.shape[0]
  random = np.random.default_rng(2)
  self_fed, numbers = random.random([K, rows]) < 0.5, random.random([K, rows]).astype('float32')
  logits, outputs = rollout.run(step, rollouts, tf.constant(self_fed), tf.constant(numbers), initial=None)
  last, state = rollouts.logits, rollouts.state[0]
  for t in range(K):
    sampled = sample_categorical(tf.nn.softmax(last), tf.constant(numbers[t][:, None]))
    last, state = chain(tf.where(self_fed[t], sampled, rollouts.inputs[t]), state)
    np.testing.assert_allclose(logits[t], last, atol=1e-5)
    np.testing.assert_array_equal(outputs[t], state)


def test_a_document_starts_with_its_true_token_and_the_initial_state():
  starts = np.zeros([B, T], bool)
  starts[1, 2] = True
  rollouts = plan(starts=tf.constant(starts))
  everywhere, numbers = tf.ones_like(rollouts.inputs, tf.bool), tf.fill(rollouts.inputs.shape, 0.5)
  initial = [tf.fill(rollouts.state[0].shape, 100.0)]
  _, outputs = rollout.run(step, rollouts, everywhere, numbers, initial=initial)
  assert outputs[1, 1, 0] == 100 + TOKENS[1, 2]
