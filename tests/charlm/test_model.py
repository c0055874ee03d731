"""The network against its slow twin, in the ways that its four callers use it."""
import numpy as np
import pytest
import tensorflow as tf

import references
from charlm import losses, model, native
from charlm.config import ModelConfig

SMALL = dict(units=5, embedding_size=4, input_units=6)
SHAPES = [dict(layers=1, input_layers=0, input_units=ModelConfig.input_units), dict(layers=2, input_layers=1),
          dict(layers=3, input_layers=2)]


def make(V=7, **options):
  """A model whose every weight is random, so that each takes part."""
  one = model.LanguageModel(ModelConfig(**{**SMALL, **options}), V, seed=1)
  random = np.random.default_rng(0)
  for v in one.variables:
    v.assign(random.normal(size=v.shape))
  return one


def weights(one):
  """A LanguageModel's weights, as the slow twin takes them, in float64."""
  def number(v):
    return v.numpy().astype(np.float64)

  def linear(m):
    return {'W': number(m.kernel), 'groups': m.groups, 'gain': number(m.gain), 'bias': number(m.bias)}

  return {'embedding': number(one.embedding), 'input': [linear(m) for m in one.input_layers],
          'layers': [{'map': linear(l.input_map), 'U': number(l.kernel), 'gain': number(l.gain),
                      'bias': number(l.bias)} for l in one.recurrent_layers],
          'kernel': number(one.output_kernel), 'bias': number(one.output_bias)}


def draw(one, B, T):
  random = np.random.default_rng(B * 10 + T)
  tokens = random.integers(0, one.vocab_size, (B, T)).astype(np.int32)
  return tokens, [random.normal(size=(B, one.config.units)) for _ in one.recurrent_layers]


def single(states):
  return tuple(tf.constant(s, tf.float32) for s in states)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('B,T', [(3, 4), (1, 1), (2, 2)])  # more tokens than V, and fewer
def test_values_agree_with_the_slow_twin(shape, B, T):
  one = make(**shape)
  tokens, states = draw(one, B, T)
  logits, after, final = one(tf.constant(tokens), single(states))
  want_logits, want_after = references.language_model(weights(one), tokens, states)
  np.testing.assert_allclose(logits, want_logits, rtol=1e-3, atol=1e-4)
  for a, w, f in zip(after, want_after, final, strict=True):
    np.testing.assert_allclose(a, w, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(a[-1], f)


@pytest.mark.parametrize('name', ['embedding', 'kernel', 'bias'])
@pytest.mark.parametrize('T', [1, 4])
def test_gradients_agree_with_the_slow_twin(name, T):
  one = make()
  tokens, states = draw(one, 3, T + 1)
  variable = {'embedding': one.embedding, 'kernel': one.output_kernel, 'bias': one.output_bias}[name]
  with tf.GradientTape() as tape:
    logits, _, _ = one(tf.constant(tokens[:, :-1]), single(states))
    loss = tf.reduce_sum(losses.nats(logits, tokens[:, 1:]))
  slow = weights(one)

  def twin(_):
    logits, _ = references.language_model(slow, tokens[:, :-1], states)
    return references.nats(logits, tokens[:, 1:]).sum()

  got = tf.convert_to_tensor(tape.gradient(loss, variable))
  np.testing.assert_allclose(got, references.gradient(twin, [slow[name]])[0], rtol=1e-2, atol=1e-3)


def test_every_weight_has_a_gradient():
  one = make()
  tokens, _ = draw(one, 2, 6)
  with tf.GradientTape() as tape:
    logits, _, _ = one(tf.constant(tokens[:, :-1]), one.initial_state(2))
    loss = tf.reduce_sum(losses.nats(logits, tokens[:, 1:]))
  for variable, gradient in zip(one.trainable_variables, tape.gradient(loss, one.trainable_variables), strict=True):
    assert gradient is not None and np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.name


@pytest.mark.parametrize('T,S', [(4, 4), (4, 1), (5, 3), (12, 12), (1, 1)])
def test_chunks_give_the_logits_of_one_pass(T, S):
  one = make()
  tokens, states = draw(one, 2, 12)
  whole, _, _ = one(tf.constant(tokens), single(states))
  state = single(states)
  for start in range(0, 12 - T + 1, S):
    logits, after, _ = one(tf.constant(tokens[:, start:start + T]), state)
    np.testing.assert_allclose(logits, whole[:, start:start + T], rtol=1e-4, atol=1e-5)
    state = tuple(a[S - 1] for a in after)


@pytest.mark.parametrize('fast', [False, pytest.param(True, marks=pytest.mark.skipif(
    bool(native.register()[1]), reason='no native kernels'))])
def test_the_stepper_agrees_with_the_whole(fast):
  one = make()
  tokens, states = draw(one, 2, 5)
  whole, _, _ = one(tf.constant(tokens), single(states))
  advance, state = one.stepper(fast), single(states)
  if fast:
    advance = tf.function(advance, jit_compile=True)
  for t in range(5):
    logits, state = advance(tf.constant(tokens[:, t]), state)
    np.testing.assert_allclose(logits, whole[:, t], rtol=1e-4, atol=1e-4)


def test_rows_start_afresh_where_asked():
  one = make()
  _, states = draw(one, 3, 1)
  after = one.reset(single(states), tf.constant([True, False, True]))
  for layer, a, s in zip(one.recurrent_layers, after, states, strict=True):
    np.testing.assert_allclose(a, [layer.initial, s[1], layer.initial], rtol=1e-6)


def test_the_state_where_text_begins_is_learned_or_not():
  assert len(make().trainable_variables) == len(make(initial_state='zeros').trainable_variables) + 2
  assert all((s.numpy() == 0).all() for s in
             model.LanguageModel(ModelConfig(initial_state='zeros', **SMALL), 7).initial_state(2))


def test_first_biases():
  layer = model.LanguageModel(ModelConfig(reset_bias=-2.0, update_bias=-3.0, **SMALL), 7).recurrent_layers[0]
  np.testing.assert_array_equal(layer.input_map.bias, [-2.0] * 5 + [-3.0] * 5 + [0.0] * 5)


def test_the_seed_decides_the_weights():
  a, b, c = (model.LanguageModel(ModelConfig(**SMALL), 7, seed=s) for s in (1, 1, 2))
  for x, y, z in zip(a.trainable_variables, b.trainable_variables, c.trainable_variables, strict=True):
    np.testing.assert_array_equal(x, y)
    assert x.shape.rank < 2 or (x.numpy() != z.numpy()).any(), x.name


def test_what_is_kept_follows_the_seed_alone():
  size = (50, 8, 18)
  y = model.kept(size, 0.25, (3, 4), (0, 8)).numpy()
  assert y.shape == size
  assert abs(y.mean() - 0.75) < 0.02
  np.testing.assert_array_equal(y, tf.function(model.kept, jit_compile=True)(size, 0.25, (3, 4), (0, 8)))
  assert (y != model.kept(size, 0.25, (3, 5), (0, 8)).numpy()).any()
  parts = [model.kept((50, 4, 18), 0.25, (3, 4), (first, 8)) for first in (0, 4)]
  np.testing.assert_array_equal(y, np.concatenate(parts, 1))


def test_rates_that_are_no_multiple_of_a_256th():
  assert model.drawn(0.3) == 77 / 256 and model.up(0.3) == 256 / 179
  assert model.kept((1, 4, 64), 255 / 256, (0, 0), (0, 4)).numpy().sum() < 9


@pytest.mark.parametrize('name', ['dropout', 'recurrent_dropout', 'zoneout'])
def test_masks_are_for_training(name):
  one = make(**{name: 0.5})
  tokens, states = draw(one, 2, 5)
  calm, _, _ = one(tf.constant(tokens), single(states))
  if name != 'zoneout':
    np.testing.assert_allclose(calm, make()(tf.constant(tokens), single(states))[0], rtol=1e-6)
  noisy, _, _ = one(tf.constant(tokens), single(states), training=True, seed=(1, 2))
  again, _, _ = one(tf.constant(tokens), single(states), training=True, seed=(1, 2))
  other, _, _ = one(tf.constant(tokens), single(states), training=True, seed=(1, 3))
  np.testing.assert_array_equal(noisy, again)
  assert np.abs(noisy - calm).max() > 0.01 and np.abs(noisy - other).max() > 0.01


def test_zoneout_keeps_old_values():
  """In training some numbers of the state are those of the token before; in evaluation all move half as far."""
  one, tokens, start = make(layers=1, zoneout=0.5), tf.constant([[3], [1]]), single([np.ones((2, 5))])
  _, (free,), _ = make(layers=1)(tokens, start)
  _, (noisy,), _ = one(tokens, start, training=True, seed=(0, 3))
  stays = model.kept((1, 2, 5), 0.5, (0, 9), (0, 2)).numpy()
  np.testing.assert_allclose(noisy, np.where(stays, free, 1.0), rtol=1e-5)
  assert 0 < stays.sum() < 10
  _, (calm,), _ = one(tokens, start)
  np.testing.assert_allclose(calm - 1, (free - 1) / 2, rtol=1e-4, atol=1e-6)


def test_stepper_takes_zoneout_as_evaluation_does():
  one = make(zoneout=0.25)
  tokens, states = draw(one, 2, 1)
  logits, _, _ = one(tf.constant(tokens), single(states))
  stepped, _ = one.stepper()(tf.constant(tokens[:, 0]), single(states))
  np.testing.assert_allclose(stepped, logits[:, 0], rtol=1e-4, atol=1e-5)


def test_nats():
  logits, targets = np.random.default_rng(0).normal(size=(2, 3, 5)), np.array([[0, 1, 2], [3, 4, 0]])
  np.testing.assert_allclose(losses.nats(tf.constant(logits, tf.float32), targets), references.nats(logits, targets),
                             rtol=1e-5)
