"""The network against its slow twin, in the ways that its four callers use it."""
import numpy as np
import pytest
import tensorflow as tf

import references
from charlm.network import dropout, losses, model
from charlm.network.backend import kernels
from charlm.network.backend.native import NativeBackend
from charlm.training.objectives import penalties
from flags.network import ModelConfig
from slow_model import random_model, slow, weights

SMALL = dict(units=5, embedding_size=4, input_units=6)
SHAPES = [dict(layers=1, input_layers=0, input_units=ModelConfig.input_units), dict(layers=2, input_layers=1),
          dict(layers=3, input_layers=2)]
CHOICES = [
  *SHAPES,
  dict(norm='joint'), dict(layer_norm=False), dict(cell='lstm', zoneout=0.5, zoneout_output=0.125),
  dict(cell='lstm', norm='joint', cell_norm=True), dict(cell='lstm', layer_norm=False, cell_norm=True),
  dict(combine='last'), dict(combine='concat'), dict(tie_embeddings=True),
  dict(tie_embeddings=True, combine='concat', embedding_size=10), dict(layers=3, wiring='residual', combine='last'),
  dict(layers=3, wiring='residual', combine='concat'), dict(layers=3, wiring='dense'),
  dict(layers=3, wiring='dense', norm='joint', zoneout=0.25), dict(layers=3, wiring='dual_path'),
  dict(layers=3, wiring='dual_path', cell='lstm', layer_norm=False, combine='last', tie_embeddings=True),
]
DROPPED = dict(dropout=0.25, input_dropout=0.25, layer_dropout=0.25, output_dropout=0.25, recurrent_dropout=0.25,
               embedding_dropout=0.25, zoneout=0.25, weight_drop=0.25)
NOISES = [
  dict(dropout=0.5), dict(input_dropout=0.5), dict(layer_dropout=0.5), dict(output_dropout=0.5),
  dict(embedding_dropout=0.5), dict(weight_drop=0.5), DROPPED, dict(**DROPPED, dropout_per='sequence'),
  dict(**DROPPED, zoneout_output=0.25, cell='lstm', layers=3, wiring='dense', combine='concat', norm='joint'),
  dict(**DROPPED, dropout_per='sequence', layers=3, wiring='residual', layer_norm=False),
  dict(**DROPPED, zoneout_output=0.5, cell='lstm', layers=3, wiring='dual_path', combine='last', tie_embeddings=True),
]


def make(V=7, **options):
  """A model whose every weight is random, so that each takes part."""
  return random_model(V, **{**SMALL, **options})


def drawn(config, B, T, V, seed):
  """The factors of a training step, from the draws themselves: dropped or scaled up; for zoneout kept or not."""
  draws = dropout.Dropout(config, dropout.Noise(*seed))
  entry = config.input_units if config.input_layers else config.embedding_size
  features = config.units * (config.layers if config.combine == 'concat' else 1)

  def factor(flag, layer=0):
    rate = getattr(config, flag)
    if not rate:
      return 1.0
    if flag == 'embedding_dropout':
      return draws.drop_weights(flag, tf.ones([V, 1]), 1).numpy()
    if flag == 'weight_drop':
      maps = {'gru': 3, 'lstm': 4}[config.cell]
      return draws.drop_weights(flag, tf.ones([config.units, maps * config.units]), maps * config.units, layer).numpy()
    units = {'input_dropout': entry, 'output_dropout': features}.get(flag, config.units)
    return draws.keep_mask(flag, (T, B, units), layer).numpy() * (1.0 if flag.startswith('zoneout') else 1 / (1 - rate))

  return factor


def draw(one, B, T):
  random = np.random.default_rng(B * 10 + T)
  tokens = random.integers(0, one.vocab_size, (B, T)).astype(np.int32)
  return tokens, tf.nest.map_structure(lambda v: random.normal(size=(B, one.config.units)),
                                       [layer.initial for layer in one.recurrent_layers])


def single(states):
  return tuple(tf.nest.map_structure(lambda s: tf.constant(s, tf.float32), states))


def assert_close(got, want, **tolerance):
  tf.nest.assert_same_structure(got, want)
  for a, b in zip(*map(tf.nest.flatten, (got, want)), strict=True):
    np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize('choice', CHOICES, ids=str)
@pytest.mark.parametrize('B,T', [(3, 4), (1, 1), (2, 2)])  # more tokens than V, and fewer
def test_values_agree_with_the_slow_twin(choice, B, T):
  one = make(**choice)
  tokens, states = draw(one, B, T)
  (logits, _, after), final = one(tf.constant(tokens), single(states))
  want_logits, _, want_after = slow(one, weights(one), tokens, states)
  np.testing.assert_allclose(logits, want_logits, rtol=1e-3, atol=1e-4)
  assert_close(after, tuple(want_after), rtol=1e-3, atol=1e-4)
  assert_close(tf.nest.map_structure(lambda a: a[-1], after), final, rtol=0)


@pytest.mark.parametrize('choice,B,T', [*((n, 3, 4) for n in NOISES), (DROPPED, 2, 2)], ids=str)
def test_what_is_dropped_is_dropped_where_the_slow_twin_does(choice, B, T):
  one = make(**choice)
  tokens, states = draw(one, B, T)
  (_, features, after), _ = one(tf.constant(tokens), single(states), dropout.Noise(3, 5))
  _, want, want_after = slow(one, weights(one), tokens, states, drawn(one.config, B, T, one.vocab_size, (3, 5)))
  np.testing.assert_allclose(features, want, rtol=1e-3, atol=1e-3)
  assert_close(after, tuple(want_after), rtol=1e-3, atol=1e-3)
  other, _ = one(tf.constant(tokens), single(states), dropout.Noise(3, 6))
  assert np.abs(features - other.features).max() > 1e-2


@pytest.mark.parametrize('choice', [*CHOICES, *NOISES[-4:]], ids=str)
def test_gradients_agree_with_the_slow_twin(choice):
  """Of the loss and both penalties: the slope along one random direction for each weight, against its gradient."""
  one = make(**choice)
  (tokens, states), random = draw(one, 3, 5), np.random.default_rng(0)
  weight = random.random((3, 4))

  @tf.function(autograph=False)
  def fast(states):
    with tf.GradientTape() as tape:
      (logits, features, after), _ = one(tokens[:, :-1], states, dropout.Noise(1, 2))
      loss = tf.reduce_sum(losses.nats(logits, tokens[:, 1:]) * weight.astype('float32'))
      loss += penalties.mean_square(features, weight.astype('float32'))
      loss += penalties.mean_square_change(tf.nest.flatten(after[-1])[0], weight.astype('float32'))
    return [tf.convert_to_tensor(g) for g in tape.gradient(loss, chosen)]

  factor = drawn(one.config, 3, 4, one.vocab_size, (1, 2))
  chosen = [v for v in one.trainable_variables if not v.name.split(':')[0].endswith(('initial_0', 'initial_1'))]
  numbers = {v.ref(): v.numpy().astype(np.float64) for v in one.variables}

  def twin():
    logits, features, after = slow(one, weights(one, lambda v: numbers[v.ref()]), tokens[:, :-1], states, factor)
    h = after[-1][0] if one.config.cell == 'lstm' else after[-1]
    loss = (references.nats(logits, tokens[:, 1:]) * weight).sum() + ((features**2).mean(-1) * weight.T).sum()
    return loss + (((h[1:] - h[:-1])**2).mean(-1) * weight[:, 1:].T).sum()

  for v, gradient in zip(chosen, fast(single(states)), strict=True):
    kept, direction = numbers[v.ref()], random.normal(size=v.shape)
    numbers[v.ref()] = kept + 1e-5 * direction
    above = twin()
    numbers[v.ref()] = kept - 1e-5 * direction
    slope = (above - twin()) / 2e-5
    numbers[v.ref()] = kept
    size = np.linalg.norm(direction) * np.linalg.norm(gradient)
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=2e-3, abs=1e-3 * size + 1e-4), v.name


@pytest.mark.parametrize('choice', CHOICES, ids=str)
def test_every_weight_has_a_gradient(choice):
  one = make(**choice)
  tokens, _ = draw(one, 2, 6)
  with tf.GradientTape() as tape:
    outputs, _ = one(tf.constant(tokens[:, :-1]), one.initial_state(2))
    loss = tf.reduce_sum(losses.nats(outputs.logits, tokens[:, 1:]))
  for variable, gradient in zip(one.trainable_variables, tape.gradient(loss, one.trainable_variables), strict=True):
    assert gradient is not None and np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.name


@pytest.mark.parametrize('choice,T,S', [
  *(({}, T, S) for T, S in [(4, 4), (4, 1), (5, 3), (12, 12), (1, 1)]),
  *((choice, 5, 3) for choice in CHOICES[len(SHAPES):])], ids=str)
def test_chunks_give_the_logits_of_one_pass(choice, T, S):
  one = make(**choice)
  tokens, states = draw(one, 2, 12)
  whole = one(tf.constant(tokens), single(states))[0].logits
  state = single(states)
  for start in range(0, 12 - T + 1, S):
    (logits, _, after), _ = one(tf.constant(tokens[:, start:start + T]), state)
    np.testing.assert_allclose(logits, whole[:, start:start + T], rtol=1e-3, atol=1e-4)
    state = tf.nest.map_structure(lambda a: a[S - 1], after)


NATIVE = [pytest.param({}, True, marks=pytest.mark.skipif(bool(kernels.register()[1]), reason='no native kernels')),
          pytest.param({'wiring': 'dense', 'combine': 'concat', 'tie_embeddings': True}, True,
                       marks=pytest.mark.skipif(bool(kernels.register()[1]), reason='no native kernels'))]


@pytest.mark.parametrize('choice, fast', [*((choice, False) for choice in CHOICES), *NATIVE], ids=str)
def test_the_stepper_agrees_with_the_whole(choice, fast):
  one = make(**choice)
  tokens, states = draw(one, 2, 5)
  (whole, _, after), _ = one(tf.constant(tokens), single(states))
  advance, state = one.with_backend(NativeBackend() if fast else one.backend).stepper(), single(states)
  if fast:
    advance = tf.function(advance, jit_compile=True)
  for t in range(5):
    logits, state = advance(tf.constant(tokens[:, t]), state)
    np.testing.assert_allclose(logits, whole[:, t], rtol=1e-3, atol=1e-4)
    assert_close(state, tf.nest.map_structure(lambda a, t=t: a[t], after), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_rows_start_afresh_where_asked(cell):
  one = make(cell=cell)
  _, states = draw(one, 3, 1)
  after = one.reset(single(states), tf.constant([True, False, True]))
  for layer, *pair in zip(one.recurrent_layers, after, states, strict=True):
    for initial, a, s in zip(*map(tf.nest.flatten, (layer.initial, *pair)), strict=True):
      np.testing.assert_allclose(a, [initial, s[1], initial], rtol=1e-6)


def test_the_state_where_text_begins_is_learned_or_not():
  count = {(kind, cell): len(make(initial_state=kind, cell=cell).trainable_variables)
           for kind in ('learned', 'zeros', 'noise') for cell in ('gru', 'lstm')}
  for kind in 'zeros', 'noise':
    assert count['learned', 'gru'] == count[kind, 'gru'] + 2
    assert count['learned', 'lstm'] == count[kind, 'lstm'] + 4
    assert all((s.numpy() == 0).all() for s in
               model.LanguageModel(ModelConfig(initial_state=kind, **SMALL), 7).initial_state(2))


@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_noise_where_text_begins_is_for_training(cell):
  """It follows the row of the whole batch, and no two tensors of the state share it."""
  one = model.LanguageModel(ModelConfig(**{**SMALL, 'units': 64}, initial_state='noise', cell=cell), 7)
  carry, rows = one.initial_state(40), tf.range(40) % 4 > 0
  noisy = tf.nest.flatten(one.reset(carry, rows, dropout.Noise(1, 2, 0, 40)))
  assert all((s.numpy() == 0).all() for s in tf.nest.flatten(one.reset(carry, rows)))
  for s in noisy:
    assert (s.numpy()[::4] == 0).all() and abs(s.numpy()[rows.numpy()].std() - model.NOISE_STDDEV) < 0.01
  assert len({float(s[1, 0]) for s in noisy}) == len(noisy) == (2 if cell == 'gru' else 4)
  half = one.reset(one.initial_state(20), rows[20:], dropout.Noise(1, 2, tf.constant(20), 40))
  assert_close(tf.nest.flatten(half), [s[20:] for s in noisy], rtol=1e-6)
  other = tf.nest.flatten(one.reset(carry, rows, dropout.Noise(1, 3)))
  assert np.abs(other[0] - noisy[0]).max() > 0.1
  assert f'{model.NOISE_STDDEV}' in ModelConfig.__dataclass_fields__['initial_state'].metadata['help']


@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_documents_start_with_the_noise_too(cell):
  """In training; a chunk that starts one is as a row that was reset."""
  one = model.LanguageModel(ModelConfig(**SMALL, initial_state='noise', cell=cell), 7)
  tokens, states = draw(one, 3, 4)
  starts = tf.constant(np.arange(4) == 0)[None] & tf.constant([[True], [False], [True]])
  noise = dropout.Noise(1, 2)
  fresh = one.reset(single(states), starts[:, 0], noise)
  for how, start in (noise, fresh), (None, one.reset(single(states), starts[:, 0])):
    outputs, _ = one(tokens, single(states), how, starts)
    assert_close(outputs.logits, one(tokens, start, how)[0].logits, rtol=1e-5)
  assert np.abs(one(tokens, fresh)[0].logits - one(tokens, start)[0].logits).max() > 1e-3


def test_rows_start_afresh_now_and_then():
  one = make(reset_probability=0.25)
  state = tuple(tf.fill([400, 5], 7.0) for _ in range(2))
  asked = tf.range(400) < 3
  first, again, other = (one.reset(state, asked, dropout.Noise(1, step))[0].numpy() for step in (5, 5, 6))
  fresh = (first == one.recurrent_layers[0].initial.numpy()).all(1)
  assert ((first == 7).all(1) != fresh).all() and fresh[:3].all()
  assert 60 < fresh.sum() < 140
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()
  np.testing.assert_array_equal(one.reset(state, asked)[0][3:], state[0][3:])
  assert_close(one.reset(tuple(s[100:] for s in state), asked[100:], dropout.Noise(1, 5, 100, 400))[0], first[100:])


def test_first_biases():
  layer = model.LanguageModel(ModelConfig(reset_bias=-2.0, update_bias=-3.0, **SMALL), 7).recurrent_layers[0]
  np.testing.assert_array_equal(layer.projections[0].bias, [-2.0] * 5 + [-3.0] * 5 + [0.0] * 5)
  layer = model.LanguageModel(ModelConfig(cell='lstm', forget_bias=2.0, norm='joint', **SMALL), 7).recurrent_layers[0]
  np.testing.assert_array_equal(layer.gain[1], [0.0] * 5 + [2.0] * 5 + [0.0] * 10)
  one = model.LanguageModel(ModelConfig(wiring='dense', **SMALL), 7)
  assert [m.bias.numpy().min() for m in one.recurrent_layers[1].projections] == [-1.0, 0.0]


def test_the_seed_decides_the_weights():
  a, b, c = (model.LanguageModel(ModelConfig(**SMALL), 7, seed=s) for s in (1, 1, 2))
  for x, y, z in zip(a.trainable_variables, b.trainable_variables, c.trainable_variables, strict=True):
    np.testing.assert_array_equal(x, y)
    assert x.shape.rank < 2 or (x.numpy() != z.numpy()).any(), x.name


@pytest.mark.parametrize('name', ['dropout', 'recurrent_dropout', 'zoneout', 'weight_drop'])
def test_masks_are_for_training(name):
  one = make(**{name: 0.5})
  tokens, states = draw(one, 2, 5)
  calm = one(tf.constant(tokens), single(states))[0].logits
  if name != 'zoneout':
    np.testing.assert_allclose(calm, make()(tf.constant(tokens), single(states))[0].logits, rtol=1e-6)
  noisy, again = (one(tf.constant(tokens), single(states), dropout.Noise(1, 2))[0].logits for _ in range(2))
  np.testing.assert_array_equal(noisy, again)
  assert np.abs(noisy - calm).max() > 0.01


def test_zoneout_keeps_old_values():
  """In training some numbers of the state are those of the token before; in evaluation all move half as far."""
  one, tokens, start = make(layers=1, zoneout=0.5), tf.constant([[3], [1]]), single([np.ones((2, 5))])
  noise = dropout.Noise(0, 3)
  (free,), (noisy,) = make(layers=1)(tokens, start)[0].states, one(tokens, start, noise)[0].states
  stays = noise.keep_mask('zoneout', 0.5, (1, 2, 5)).numpy()
  np.testing.assert_allclose(noisy, np.where(stays, free, 1.0), rtol=1e-5)
  assert 0 < stays.sum() < 10
  calm, = one(tokens, start)[0].states
  np.testing.assert_allclose(calm - 1, (free - 1) / 2, rtol=1e-4, atol=1e-6)
