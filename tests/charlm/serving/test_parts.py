"""Long texts are cut into parts, and what is said of them is what one piece gives."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.serving import parts


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
  monkeypatch.setattr(parts, 'PART_TOKENS', 100)
  monkeypatch.setattr(parts, 'MOST_PARTS', 8)
  monkeypatch.setattr(parts, 'SEGMENT', 10)


def reading(tokens, decay, reads):
  """A model whose state is the decayed sum of its tokens, and whose loss is the sum of its states."""
  def segment(p, s, which, state):
    lengths, _ = parts.segment_of(p, s, which)
    reads.append(int(tf.reduce_sum(lengths)))
    losses = tf.zeros_like(state[:, 0])
    for t in range(parts.SEGMENT):
      token = tf.gather(tokens, tf.minimum(p.first + s * parts.SEGMENT + t, len(tokens) - 1))
      state = tf.where((t < lengths)[:, None], decay * state + token[:, None], state)
      losses += tf.where(t < lengths, state[:, 0], 0.0)
    return state, losses

  return segment


def one_piece(tokens, decay, state):
  losses = 0.0
  for token in tokens:
    state = decay * state + token
    losses += state
  return state, losses


LENGTHS = [730, 0, 99, 1234, 200, 7]


def both(decay, lengths, tolerance, seed=0):
  """(states, losses) in parts and in one piece, and how many tokens were read."""
  tokens, reads = tf.constant(np.random.default_rng(seed).uniform(0.5, 1, sum(lengths))), []
  state = np.linspace(-3, 3, len(lengths))
  found = parts.read(reading(tokens, decay, reads), tf.constant(lengths), tf.constant(state[:, None]), tolerance)
  rows = np.split(tokens.numpy(), np.cumsum(lengths)[:-1])
  wanted = np.transpose([one_piece(row, decay, own) for row, own in zip(rows, state, strict=True)])
  return (found[0].numpy()[:, 0], found[1].numpy()), wanted, sum(reads)


@pytest.mark.parametrize('tolerance', [0.02, 1e-4])
@pytest.mark.parametrize('decay', [0.0, 0.9, 0.99])
def test_what_is_said_of_a_text_is_within_the_tolerance_of_one_piece(decay, tolerance):
  (states, losses), wanted, _ = both(decay, LENGTHS, tolerance)
  np.testing.assert_allclose(states, wanted[0], rtol=tolerance)
  assert (np.abs(losses - wanted[1]) <= 1e-4 * np.maximum(LENGTHS, 1)).all()


def test_of_a_text_that_is_never_forgotten_all_is_read_again():
  (states, losses), wanted, read = both(1.0, LENGTHS, 0.0)
  np.testing.assert_allclose(states, wanted[0])
  np.testing.assert_allclose(losses, wanted[1])
  assert read > 3 * sum(LENGTHS)


def test_of_a_text_that_is_soon_forgotten_little_is_read_again():
  _, _, read = both(0.5, LENGTHS, 0.02)
  assert sum(LENGTHS) < read < 1.5 * sum(LENGTHS)
  assert both(0.5, [0, 99, 199], 0.02)[2] == 298  # short texts are read in one piece, once


def test_a_text_is_read_the_same_way_whatever_is_beside_it():
  """To the last bit, of this model, whose arithmetic does not depend on the number of rows."""
  tokens = np.split(np.random.default_rng(0).uniform(0.5, 1, 1964), [1234])

  def ask(*rows):
    given = np.concatenate([tokens[row] if row is not None else [] for row in rows])
    lengths = [len(tokens[row]) if row is not None else 0 for row in rows]
    found = parts.read(reading(tf.constant(given), 0.97, []), tf.constant(lengths), tf.ones([len(rows), 1], tf.float64),
                       0.02)
    return np.stack([found[0][:, 0], found[1]], 1)

  together = ask(0, 1)
  for rows in ([0], [1], [1, 0], [None, 1, None, 0, 0]):
    np.testing.assert_array_equal([row for row, own in zip(ask(*rows), rows, strict=True) if own is not None],
                                  together[[own for own in rows if own is not None]])


@pytest.mark.parametrize('lengths', [[], [0], [1], [100], [199, 200, 201], [800, 100_000]])
def test_parts_are_the_text_one_after_the_other(lengths):
  cut = parts.cut(tf.constant(lengths, tf.int32))
  first, length, text = cut.first.numpy(), cut.length.numpy(), cut.text.numpy()
  assert np.bincount(text, length, len(lengths)).tolist() == lengths
  assert (first[1:] == first[:-1] + length[:-1]).all() and set(text) == set(range(len(lengths)))
  for i, total in enumerate(lengths):
    own = length[text == i]
    assert len(own) == min(max(total // 100, 1), 8) == cut.count.numpy()[text == i][0]
    assert (own > 0).all() == (total > 0)
