"""Professor forcing against its slow twin in NumPy float64: losses, gradients, and the rule of when who learns."""
import numpy as np
import pytest
import tensorflow as tf

import learners
import references
import slow_model
from charlm.network.dropout import Noise
from charlm.training.objectives import multi_step, professor_forcing
from charlm.training.objectives.professor_forcing import ProfessorForcing
from data_pipeline.streams import Batch

V, B, T, K, LONGEST = 5, 2, 7, 3, 10  # two whole rollouts a row


def make(cell='gru', **train):
  one = slow_model.random_model(V, cell=cell)
  train = {**dict(multi_step=K, professor_forcing=0.7, seed=7), **train}
  return learners.make(one, batch_size=B, longest=LONGEST, **train)


def professor_of(one):
  return learners.objective(one, ProfessorForcing)


def learned(one, *summed):
  """-> how often the discriminator was right, after it has learned from these sums."""
  return float(one.learn(summed)['discriminator_accuracy'])


def numbers(variables):
  return {v.name.partition(':')[0]: v.numpy().astype(np.float64) for v in variables}


def verdicts(given, behaviour):
  """[K, R, n] -> log(D / (1 - D)) [R]."""
  H, ends = professor_forcing.UNITS, []
  for name, x in ('forwards', behaviour), ('backwards', behaviour[::-1]):
    parts = np.split(x @ given[f'{name}_input_0_kernel'], [2 * H], -1)
    gains = np.split(given[f'{name}_input_0_gain'], [2 * H])
    maps = np.concatenate([references.layer_norm(p, g) for p, g in zip(parts, gains, strict=True)], -1)
    ends.append(references.gru_layer(maps + given[f'{name}_input_0_bias'], np.zeros((x.shape[1], H)),
                                     given[f'{name}_kernel'], given[f'{name}_gain_0'], given[f'{name}_cell_0'])[-1])
  hidden = np.tanh(np.concatenate(ends, -1) @ given['hidden_kernel'] + given['hidden_bias'])
  return (hidden @ given['verdict_kernel'] + given['verdict_bias'])[:, 0]


def negative_log(logits):
  """-log D of log(D / (1 - D))."""
  return np.log(1 + np.exp(-logits))


def slope(loss, numbers, name, direction):
  kept = numbers[name]
  numbers[name] = kept + 1e-5 * direction
  above = loss()
  numbers[name] = kept - 1e-5 * direction
  below, numbers[name] = loss(), kept
  return (above - below) / 2e-5


def assert_slope(gradient, loss, numbers, name, random):
  direction = random.normal(size=numbers[name].shape)
  size = np.linalg.norm(direction) * np.linalg.norm(gradient)
  want = slope(loss, numbers, name, direction)
  assert np.sum(gradient * direction) == pytest.approx(want, rel=2e-3, abs=1e-3 * size + 1e-5), name


def test_the_discriminator_agrees_with_its_slow_twin():
  random, one = np.random.default_rng(0), professor_of(make())
  teacher, free = (random.normal(size=(K, 6, 13)) + shift for shift in (0.2, -0.2))
  weight = np.array([1, 1, 0, 1, 1, 1])
  seen = professor_forcing.Behaviours(*(tf.constant(x, tf.float32) for x in (teacher, free, weight)))
  given = numbers(one.weights)

  def loss():
    return weight @ (negative_log(verdicts(given, teacher)) + negative_log(-verdicts(given, free)))

  gradients, right, judged = one.gradients(seen)
  want = weight @ ((verdicts(given, teacher) > 0) * 1 + (verdicts(given, free) < 0))
  assert (float(right), float(judged)) == (want, 10) and 0 < want < 10
  for v, gradient in zip(one.weights, gradients, strict=True):
    assert_slope(gradient, loss, given, v.name.partition(':')[0], random)


def behaviour(model, weights, logits, state, read):
  """-> the states and the distributions of K steps of a row, in which it reads what `read(j, logits)` says."""
  steps = []
  for j in range(K):
    logits, state = slow_model.read(model, weights, read(j, logits), state)
    p = np.exp(logits - logits.max())
    steps.append(np.concatenate([*(tf.nest.flatten(s)[0][0] for s in state), p / p.sum()]))
  return np.stack(steps)[:, None]


@pytest.mark.parametrize('cell,teacher_too', [('gru', False), ('lstm', True)])
def test_what_the_model_is_taught_agrees_with_a_plain_loop(cell, teacher_too):
  """The difference that the discriminator makes to the gradient, once it is useful."""
  one, random = make(cell, professor_forcing_teacher=teacher_too), np.random.default_rng(1)
  tokens = random.integers(0, V, (B, T + 1), np.int32)
  batch = Batch(tf.constant(tokens), tf.constant([False] * B), tf.ones([B, T]))
  carry = tf.nest.map_structure(lambda s: tf.constant(random.normal(size=s.shape), tf.float32),
                                one.model.initial_state(B))
  gradients = []
  for accuracy in 0.5, 0.8:
    professor_of(one).accuracy.assign(accuracy)
    gradients.append(learners.gradients(one, batch, carry)[0])
  _, drawn = multi_step.draw(one.config, (K, 2 * B), B, 0.0, Noise(7, 3))
  of_professor, given = numbers(professor_of(one).weights), {}
  given = {v.ref(): v.numpy().astype(np.float64) for v in one.model.variables}

  def loss():
    weights, total = slow_model.weights(one.model, lambda v: given[v.ref()]), 0.0
    for b in range(B):
      state = [tf.nest.map_structure(lambda s, b=b: s.numpy()[b:b + 1].astype(np.float64), s) for s in carry]
      for t in range(K + 1):
        logits, state = slow_model.read(one.model, weights, tokens[b, t], state)
        if t % K == 0:
          row = t // K * B + b
          free = behaviour(one.model, weights, logits, state,
                           lambda j, logits, row=row: slow_model.sample(logits, float(drawn[j, row])))
          total += negative_log(verdicts(of_professor, free))[0]
          if teacher_too:
            teacher = behaviour(one.model, weights, logits, state, lambda j, logits, b=b, t=t: tokens[b, t + 1 + j])
            total += negative_log(-verdicts(of_professor, teacher))[0]
    return 0.7 * K * total / (B * LONGEST)

  for v, before, after in zip(one.model.trainable_variables, *gradients, strict=True):
    if 'initial' not in v.name:
      assert_slope(after.numpy() - before.numpy(), loss, given, v.ref(), random)


@pytest.mark.parametrize('accuracy,teaches,learns', [
  (0.5, False, True), (0.75, False, True), (0.76, True, True), (0.98, True, True), (0.99, True, False)])
def test_who_learns_when(accuracy, teaches, learns):
  one, random = professor_of(make()), np.random.default_rng(0)
  seen = professor_forcing.Behaviours(*(tf.constant(random.normal(size=(K, 4, 13)), tf.float32) for _ in range(2)),
                                      tf.ones(4))
  one.accuracy.assign(accuracy)
  before = [w.numpy() for w in one.weights]
  one.before_step()
  assert (float(one.loss(seen)) > 0) == teaches
  gradients, right, judged = one.gradients(seen)
  assert learned(one, gradients, right, judged) == float(one.accuracy) == float(right) / 8
  assert any((w.numpy() != b).any() for w, b in zip(one.weights, before, strict=True)) == learns


def test_a_step_without_whole_rollouts_leaves_the_verdict():
  one = professor_of(make())
  one.accuracy.assign(0.8)
  nothing = tf.constant(0.0)
  assert learned(one, [tf.zeros_like(w) for w in one.weights], nothing, nothing) == pytest.approx(0.8)


def test_it_learns_to_tell_behaviours_apart():
  one, random = professor_of(make(discriminator_learning_rate=0.003)), np.random.default_rng(0)
  accuracies = []
  for _ in range(25):
    teacher, free = (tf.constant(random.normal(size=(K, 16, 13)) + shift, tf.float32) for shift in (0.3, -0.3))
    one.before_step()
    accuracies.append(learned(one, *one.gradients(professor_forcing.Behaviours(teacher, free, tf.ones(16)))))
  assert accuracies[0] < 0.75 and min(accuracies[-5:]) > 0.9


def test_rollouts_that_the_chunk_cuts_off_do_not_count():
  """Nor do those with targets of no weight; the rest are seen as if alone."""
  one, random = make(), np.random.default_rng(1)
  weight = np.ones((B, T + 1), 'float32')
  weight[0, 2] = 0
  tokens = random.integers(0, V, (B, T + 2), np.int32)
  batch = Batch(tf.constant(tokens), tf.constant([True] * B), tf.constant(weight))
  _, own, _ = learners.gradients(one, batch, one.initial_carry())
  (_, _, judged), = filter(None, own)
  assert float(judged) == 2 * 3
