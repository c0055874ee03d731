"""The multi-step loss and its gradient against a plain loop in NumPy float64."""
import numpy as np
import pytest
import tensorflow as tf

import learners
import references
import slow_model
from charlm.network.dropout import Noise
from charlm.training.objectives.base import ForwardPass
from charlm.training.objectives.multi_step import MultiStep
from charlm.training.objectives.multi_step import draw as draw_choices
from data_pipeline.streams import Batch
from flags.config import Config
from flags.data import DataConfig
from flags.errors import UserError
from flags.training import TrainConfig

V, B, T, LONGEST = 5, 2, 8, 10
NOISE, PROGRESS = Noise(7, 3), 0.5


def make(train, **model):
  one = slow_model.random_model(V, **{'layers': 1, **model})
  return learners.make(one, batch_size=B, longest=LONGEST, seed=7, **train)


def draw(one, documents=False):
  random = np.random.default_rng(1)
  starts = np.zeros((B, T), bool)
  starts[0, 3] = starts[1, 5] = starts[1, 6] = True
  weight = random.random((B, T)).astype('float32')
  batch = Batch(*map(tf.constant, (random.integers(0, V, (B, T + 1), np.int32), np.array([False, True]), weight)),
                tf.constant(starts) if documents else None)
  return batch, tf.nest.map_structure(lambda s: tf.constant(random.normal(size=s.shape), tf.float32),
                                      one.model.initial_state(B))


def plain_loop(one, given, batch, carry, own, numbers):
  """-> the training loss, token by token and rollout by rollout."""
  config, steps, loss = one.config, one.config.multi_step, 0.0
  tokens, weight = batch.tokens.numpy(), batch.weight.numpy().astype(np.float64)
  starts = np.zeros((B, T), bool) if batch.starts is None else batch.starts.numpy()
  initial = slow_model.initial(one.model, given)

  def judge(logits, b, t, share):
    return share * weight[b, t] * references.nats(logits[None, None], tokens[b, t + 1].reshape(1, 1))[0, 0]

  for b in range(B):
    state = [tf.nest.map_structure(lambda s, b=b: s.numpy()[b:b + 1].astype(np.float64), s) for s in carry]
    if batch.reset[b]:
      state = initial
    for t in range(T):
      if starts[b, t]:
        state = initial
      logits, state = slow_model.read(one.model, given, tokens[b, t], state)
      loss += judge(logits, b, t, 1 - config.multi_step_weight if t else 1.0)
      if t % steps or t == T - 1:
        continue
      guess, at, row = logits, state, t // steps * B + b
      for j in range(min(steps, T - 1 - t)):
        x = tokens[b, t + 1 + j]
        if starts[b, t + 1 + j]:
          at = initial
        elif own[j, row]:
          p = np.exp(guess - guess.max())
          x = p / p.sum() if config.multi_step_input == 'expected' else slow_model.sample(guess, numbers[j, row])
        guess, at = slow_model.read(one.model, given, x, at)
        loss += judge(guess, b, t + 1 + j, config.multi_step_weight)
  return loss / (B * LONGEST)


@pytest.mark.parametrize('train,model,documents', [
  (dict(multi_step=3), dict(layers=2), False),
  (dict(multi_step=3, multi_step_weight=0.7), dict(cell='lstm', tie_embeddings=True), True),
  (dict(multi_step=2, multi_step_input='expected'), dict(cell='lstm', norm='joint'), False),
  (dict(multi_step=7, multi_step_input='expected', multi_step_mix=0.8, multi_step_weight=1.0),
   dict(layers=3, wiring='dense', zoneout=0.0), True),
  (dict(multi_step=4, multi_step_schedule='linear'), dict(layer_norm=False), False)], ids=str)
def test_agrees_with_a_plain_loop(train, model, documents):
  """The loss, by its slope along one random direction for each weight; and its value."""
  one = make(train, **model)
  batch, carry = draw(one, documents)
  gradients, _, sums = learners.gradients(one, batch, carry, progress=PROGRESS)
  shape = one.config.multi_step, -(-(T - 1) // one.config.multi_step) * B
  own, numbers = (x.numpy() for x in draw_choices(one.config, shape, B, PROGRESS, NOISE))
  share = one.config.multi_step_mix * (PROGRESS if one.config.multi_step_schedule == 'linear' else 1)
  assert own.all() if share == 1 else 0 < own.mean() < 1
  given = {v.ref(): v.numpy().astype(np.float64) for v in one.model.variables}

  def loss():
    weights = slow_model.weights(one.model, lambda v: given[v.ref()])
    return plain_loop(one, weights, batch, carry, own, numbers)

  value = (1 - one.config.multi_step_weight) * sums['nats'] + one.config.multi_step_weight * sums['multi_step_nats']
  assert float(value) / (B * LONGEST) == pytest.approx(loss(), rel=1e-4)
  random = np.random.default_rng(0)
  for v, gradient in zip(one.model.trainable_variables, gradients, strict=True):
    kept, direction = given[v.ref()], random.normal(size=v.shape)
    given[v.ref()] = kept + 1e-5 * direction
    above = loss()
    given[v.ref()] = kept - 1e-5 * direction
    slope = (above - loss()) / 2e-5
    given[v.ref()] = kept
    size = np.linalg.norm(direction) * np.linalg.norm(gradient)
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=2e-3, abs=1e-3 * size + 1e-5), v.name


@pytest.mark.parametrize('kind', ['sampled', 'expected'])
def test_on_true_tokens_it_is_the_plain_loss(kind):
  """At the start of a linear schedule, where nothing is self-fed yet."""
  train = dict(multi_step=3, multi_step_input=kind, multi_step_schedule='linear', multi_step_weight=0.6)
  one, plain = make(train, layers=2), make({}, layers=2)
  batch, carry = draw(one)
  (gradients, _, sums), (want, _, want_sums) = (learners.gradients(l, batch, carry) for l in (one, plain))
  assert float(sums['multi_step_nats']) == pytest.approx(float(sums['nats']), rel=1e-5)
  assert float(sums['nats']) == pytest.approx(float(want_sums['nats']), rel=1e-6)
  for a, b in zip(gradients, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_nothing_is_dropped_in_a_rollout():
  one, noisy = (make(dict(multi_step=3), **options) for options in (
      {}, dict(dropout=0.5, recurrent_dropout=0.5, weight_drop=0.5, embedding_dropout=0.5)))
  batch, carry = draw(one)
  outputs, _ = one.model(batch.tokens[:, :-1], carry)

  def nats(l):
    forward = ForwardPass(l.model, batch, outputs, tf.zeros([B, T]), NOISE, PROGRESS)
    return float(learners.objective(l, MultiStep)(forward)[1]['multi_step_nats'])

  assert nats(one) == pytest.approx(nats(noisy), rel=1e-5)


def test_replicas_draw_their_rows_of_the_whole():
  config = TrainConfig(multi_step=3, multi_step_mix=0.5)
  whole, part = (draw_choices(config, (3, 2 * rows), rows, 1.0, Noise(7, 3, first, 4))
                 for rows, first in ((4, 0), (2, 2)))
  for a, b in zip(whole, part, strict=True):
    np.testing.assert_array_equal(a.numpy().reshape(3, 2, 4)[:, :, 2:], b.numpy().reshape(3, 2, 2))
  assert 0 < whole[0].numpy().mean() < 1


def test_rollouts_are_shorter_than_chunks():
  with pytest.raises(UserError, match='--multi_step=8: expected less than the shortest chunk, 8 tokens'):
    Config(data=DataConfig(chunk_curriculum='8,16'), train=TrainConfig(multi_step=8))
