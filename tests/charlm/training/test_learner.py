"""A step means the same on one replica and on two; evaluation does not depend on rows and chunks."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.evaluation import scoring
from charlm.evaluation.scoring import PlainScorer
from charlm.network import losses
from charlm.network.backend import kernels
from charlm.network.backend.native import NativeBackend
from charlm.training import learner
from charlm.training.learner import StepDecisions
from data_pipeline import streams
from data_pipeline.rows import evaluation_rows, training_rows
from learners import RECIPES, SMALL, STARTS, TEXT
from learners import small as make


def train(one, steps, *, length=20, overlap=0, starts=None):
  """-> the weights, the carry and the metrics of each step."""
  rows = training_rows(len(TEXT), one.batch_size)

  def stream(context):
    return streams.training_stream(TEXT, rows, length=length, stride=length - overlap, context=context,
                                   starts=starts)

  carry, history = one.initial_carry(), []
  for step, batch in zip(range(steps), one.distribution.batches(stream), strict=False):
    metrics, carry = one.step(batch, carry, StepDecisions(0.5, 0.8, 1 / (1 + step)))
    history.append({k: float(v) for k, v in metrics.items()})
  return [v.numpy() for v in one.model.variables], one.join_carry(carry), history


SGD = {'optimizer': 'sgd', 'learning_rate': 0.5, 'schedule': 'plateau', 'warmup_steps': 0}


@pytest.mark.parametrize('options', [
  pytest.param({}, id='plain'), pytest.param(dict(train={'optimizer': 'muon'}), id='muon', marks=pytest.mark.slow),
  pytest.param(RECIPES[0], id='gru', marks=pytest.mark.slow),
  pytest.param(RECIPES[1], id='lstm', marks=pytest.mark.slow),
  pytest.param(dict(overlap=19, layer_norm=False, initial_state='noise', starts=STARTS,
                    train={**SGD, 'weight_decay': 0.01, 'clip_percentile': 50.0, 'average': 'ema'}),
               id='documents', marks=pytest.mark.slow)])
def test_two_replicas_learn_the_same_as_one(options):
  starts, overlap = options.get('starts'), options.get('overlap', 0)
  made = [make(s, **{k: v for k, v in options.items() if k != 'starts'}) for s in ('default', 'mirrored')]
  (weights, carry, history), other = (train(one, 20, overlap=overlap, starts=starts) for one in made)
  assert made[1].distribution.replicas == 2
  averages, norms = ([[v.numpy() for v in getattr(one, name).variables] for one in made]
                     for name in ('evaluated', 'clip'))
  discriminators = [[v.numpy() for o in one.objectives for v in getattr(o, 'weights', [])] for one in made]
  for one, two in (weights, other[0]), averages, norms, discriminators:
    for a, b in zip(one, two, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-4)  # Adam makes as much of the rounding of small gradients
  for a, b in zip(carry, other[1], strict=True):
    np.testing.assert_allclose(a, b, atol=1e-3)
  for a, b in zip(history, other[2], strict=True):
    assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize('options', [{}, RECIPES[0]], ids=['plain', 'professor_forcing'])
def test_all_that_replicas_tell_each_other_is_summed_once(monkeypatch, options):
  """Gradients, what objectives learn from, and metrics, in one call; Keras does not sum the gradients again."""
  calls, all_reduce = [], tf.distribute.ReplicaContext.all_reduce
  monkeypatch.setattr(tf.distribute.ReplicaContext, 'all_reduce', lambda self, *args, **others: (
      calls.append(self.replica_id_in_sync_group), all_reduce(self, *args, **others))[1])
  one = make('mirrored', **options)
  rows = training_rows(len(TEXT), one.batch_size)
  batch = next(iter(one.distribution.batches(
      lambda context: streams.training_stream(TEXT, rows, length=20, stride=20, context=context))))
  one._step.get_concrete_function(batch, one.initial_carry(), StepDecisions(*tf.constant([0.5, 1.0, 1.0])))
  assert len(calls) == one.distribution.replicas == 2


@pytest.mark.parametrize('masks', [
  pytest.param(dict(dropout=0.3, recurrent_dropout=0.2, zoneout=0.1), id='plain'),
  pytest.param(dict(wiring='dual_path', tie_embeddings=True, input_dropout=0.2, recurrent_dropout=0.2, weight_drop=0.2,
                    dropout_per='sequence'), id='dual_path', marks=pytest.mark.slow)])
def test_native_kernels_learn_the_same_as_xla(masks):
  (weights, carry, _), other = (train(make(recurrence=r, **masks), 20) for r in ('auto', 'xla'))
  assert isinstance(make().model.backend, NativeBackend) != bool(kernels.register()[1])
  for a, b in zip(weights + list(carry), other[0] + list(other[1]), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_bfloat16_agrees_within_a_hundredth():
  """Products alone are rounded: the losses of a run stay close, and the weights stay float32."""
  (weights, _, rounded), (_, _, exact) = (train(make(compute_dtype=d), 20) for d in ('bfloat16', 'float32'))
  assert {w.dtype for w in weights} == {np.dtype('float32')}
  losses_of = [[m['nats'] / m['tokens'] for m in history] for history in (rounded, exact)]
  np.testing.assert_allclose(*losses_of, rtol=0.01)
  assert losses_of[0] != losses_of[1]
  for a, b in zip(rounded[:5], exact, strict=False):
    assert a['gradient_norm'] == pytest.approx(b['gradient_norm'], rel=0.05)


@pytest.mark.parametrize('overlap, cell', [(0, 'gru'), (6, 'lstm'), (19, 'gru')])
def test_the_carry_is_the_state_after_the_stride(overlap, cell):
  one, stride = make(overlap=overlap, train={'optimizer': 'sgd'}, cell=cell), 20 - overlap
  batch = next(iter(streams.training_stream(TEXT, training_rows(len(TEXT), 4), length=20, stride=stride)))
  before = one.model.initial_state(4)
  _, expected = one.model.portable()(batch.tokens[:, :stride], before)
  _, carry = one.step(batch, one.initial_carry(), StepDecisions())
  for a, b in zip(*map(tf.nest.flatten, (carry, expected)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('options', [{}, {'reset_probability': 1.0}, {'initial_state': 'noise'}], ids=str)
def test_where_rows_start_in_training(options):
  """At another state where text goes on, unless all rows are to forget it; at noise where text begins."""
  one = make(train={'optimizer': 'sgd', 'learning_rate': 1e-9}, longest=2, **options)
  rows = training_rows(len(TEXT), 4)
  first, later = (next(iter(streams.training_stream(TEXT, rows, length=2, stride=2, offset=n))) for n in (0, 2))
  low, high = (one.split_carry([np.full((4, SMALL['units']), v, 'float32')] * 2) for v in (-0.5, 0.5))

  def agree(batch):
    ends = [one.join_carry(one.step(batch, carry, StepDecisions())[1]) for carry in (low, high)]
    return all(np.abs(a - b).max() < 1e-5 for a, b in zip(*ends, strict=True))

  assert agree(later) == ('reset_probability' in options)
  assert agree(first) == ('initial_state' not in options)  # the noise of two steps is not the same


@pytest.mark.parametrize('penalties', [{}, {'activation_penalty': 0.5, 'temporal_penalty': 3.0, 'cell': 'lstm'}])
def test_one_step_of_gradient_descent_by_hand(penalties):
  """Loss: sum over time over the longest chunk, mean over rows; clipped by the norm before it."""
  one = make(longest=50, train={'optimizer': 'sgd', 'clip_norm': 0.05, 'schedule': 'constant', 'seed': 1}, **penalties)
  batch = next(iter(streams.training_stream(TEXT, training_rows(len(TEXT), 4), length=20, stride=20)))
  with tf.GradientTape() as tape:
    (logits, features, states), _ = one.model.portable()(batch.tokens[:, :-1], one.model.initial_state(4))
    loss = nats = tf.reduce_sum(losses.nats(logits, batch.tokens[:, 1:]))
    if penalties:
      h, units = states[-1][0], SMALL['units']
      loss += 0.5 * tf.reduce_sum(features**2) / units + 3.0 * tf.reduce_sum((h[1:] - h[:-1])**2) / units
    loss /= 4 * 50
  gradients = tape.gradient(loss, one.model.trainable_variables)
  norm = np.sqrt(sum(float(tf.reduce_sum(g * g)) for g in map(tf.convert_to_tensor, gradients)))
  assert norm > 0.05
  rate = 0.003 / 50  # the first of fifty steps of warm-up
  expected = [v.numpy() - rate * 0.05 / norm * tf.convert_to_tensor(g).numpy()
              for v, g in zip(one.model.trainable_variables, gradients, strict=True)]
  metrics, _ = one.step(batch, one.initial_carry(), StepDecisions())
  assert float(metrics['nats']) == pytest.approx(float(nats), rel=1e-5)
  assert float(metrics['gradient_norm']) == pytest.approx(norm, rel=1e-4)
  assert float(metrics['learning_rate']) == pytest.approx(rate)
  for v, e in zip(one.model.trainable_variables, expected, strict=True):
    np.testing.assert_allclose(v.numpy(), e, atol=1e-6, err_msg=v.name)


def test_steps_with_all_that_may_change_them_by_hand():
  """Steps of gradient descent: decay of matrices alone, then the gradient, clipped by the norms so far."""
  options = {**SGD, 'weight_decay': 0.1, 'clip_percentile': 30.0, 'average': 'ema'}
  one, rate, norms, averages = make(train=options), 0.5 * 0.8, [], None
  carry, rows = one.initial_carry(), training_rows(len(TEXT), 4)
  for step, batch in zip(range(4), streams.training_stream(TEXT, rows, length=20, stride=20), strict=False):
    with tf.GradientTape() as tape:
      outputs, _ = one.model.portable()(batch.tokens[:, :-1], one.model.reset(carry, batch.reset))
      loss = tf.reduce_sum(losses.nats(outputs.logits, batch.tokens[:, 1:])) / 4 / 20
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, one.model.trainable_variables)]
    norms.append(np.sqrt(sum((g.astype(np.float64)**2).sum() for g in gradients)))
    scale = min(1, np.percentile(norms, 30) / norms[-1])
    expected = [v.numpy() * (1 - rate * 0.1 * (v.shape.rank == 2)) - rate * scale * g
                for v, g in zip(one.model.trainable_variables, gradients, strict=True)]
    share = [1.0, 0.5, 0.25, 0.7][step]
    _, carry = one.step(batch, carry, StepDecisions(0.0, 0.8, share))
    for v, e in zip(one.model.trainable_variables, expected, strict=True):
      np.testing.assert_allclose(v.numpy(), e, atol=2e-6, err_msg=v.name)
    now = [v.numpy() for v in one.model.variables]
    averages = [share * n + (1 - share) * a for n, a in zip(now, averages or now, strict=True)]
  assert any(norm > np.percentile(norms[:i + 1], 30) * 1.01 for i, norm in enumerate(norms))
  for v, a in zip(one.evaluated.variables, averages, strict=True):
    np.testing.assert_allclose(v.numpy(), a, atol=1e-6, err_msg=v.name)
  assert np.abs(averages[0] - now[0]).max() > 1e-3


def test_an_average_with_a_share_of_one_is_the_weights():
  one = make(train={'average': 'validation'})
  batch = next(iter(streams.training_stream(TEXT, training_rows(len(TEXT), 4), length=20, stride=20)))
  one.evaluated.variables[0].assign(one.evaluated.variables[0] + 5)  # as where the weights of another run were loaded
  one.step(batch, one.initial_carry(), StepDecisions())
  for a, b in zip(one.evaluated.variables, one.model.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_evaluation_is_of_the_average():
  one = make(train={'average': 'ema'})
  train(one, 30)
  averaged = evaluate(one, 4, 50)
  assert averaged == evaluate_model(PlainScorer(one.evaluated), 4, 50)
  assert averaged != evaluate_model(PlainScorer(one.model), 4, 50)


def test_it_learns():
  first, *_, last = train(make(), 60)[2]
  assert last['nats'] < 0.9 * first['nats']


def documents():
  """The documents of TEXT with the token before them, from which the first is predicted: [1, n] each."""
  ends = [*(STARTS[1:] + 1), len(TEXT)]
  return [TEXT[None, a:b].astype(np.int32) for a, b in zip(STARTS, ends, strict=True)]


def read_apart(model, parts):
  """Each document from the initial state -> sum of nats."""
  @tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)])
  def nats(part):
    return tf.reduce_sum(losses.nats(model.portable()(part[:, :-1], model.initial_state(1))[0].logits, part[:, 1:]))

  return tf.add_n([nats(part) for part in parts])


def test_documents_in_a_chunk_are_learned_as_if_apart():
  """Values, and the gradient of every weight, the initial state's as well."""
  one = make(longest=300, batch_size=1)
  for v in one.model.variables:
    v.assign_add(tf.random.stateless_normal(v.shape, [1, 2]) * 0.3)
  batch = streams.chunk(TEXT, training_rows(301, 1), 0, 300, starts=STARTS)
  with tf.GradientTape() as tape:
    apart = read_apart(one.model, [p[:, :301 - s] for s, p in zip(STARTS, documents(), strict=True) if s < 300])
    loss = apart / 300
  slow = tape.gradient(loss, one.model.trainable_variables)
  (gradients, _, sums), _ = one._gradients(batch, one.initial_carry(), tf.constant(0, tf.int64), 0, 0.0)
  assert float(sums['tokens']) == 300 and float(sums['nats']) == pytest.approx(float(apart), rel=1e-4)
  for v, g, s in zip(one.model.trainable_variables, gradients, slow, strict=True):
    np.testing.assert_allclose(g, tf.convert_to_tensor(s), rtol=1e-3, atol=1e-4, err_msg=v.name)


@pytest.mark.parametrize('cell', ['gru', pytest.param('lstm', marks=pytest.mark.slow)])
def test_rollouts_start_documents_where_the_chunk_does(cell):
  """Of true tokens alone they lose what the chunk does, whatever noise a document starts from."""
  one = make(cell=cell, initial_state='noise', train=dict(multi_step=7, multi_step_mix=1e-9))
  for metrics in train(one, 3, starts=STARTS)[2]:
    assert metrics['multi_step_nats'] == pytest.approx(metrics['nats'], rel=1e-5)


@pytest.mark.slow
def test_documents_are_evaluated_as_if_apart():
  one = make()
  train(one, 30, starts=STARTS)
  apart = float(read_apart(one.model, documents())) / (len(TEXT) - 1)
  for batch_size, length, exact in (1, 7, 1e-5), (1, 200, 1e-5), (32, 64, 1e-4):
    assert evaluate(one, batch_size, length, STARTS) == pytest.approx(apart, abs=exact)
  assert abs(evaluate(one, 1, 200) - apart) > 1e-4


def evaluate(one, batch_size, length, starts=None):
  return evaluate_model(learner.DistributedScorer(one.evaluated, one.distribution), batch_size, length, starts)


def evaluate_model(scorer, batch_size, length, starts=None):
  rows = evaluation_rows(len(TEXT), batch_size, length)
  nats, tokens = scoring.accumulate(scorer, scorer.batches(lambda context: streams.evaluation_stream(
      TEXT, rows, length=length, context=context, starts=starts)), rows)
  assert tokens == len(TEXT) - 1
  return nats / tokens


@pytest.mark.parametrize('options', [
  {}, pytest.param({'cell': 'lstm', 'layers': 1, 'initial_state': 'noise'}, marks=pytest.mark.slow)], ids=str)
def test_evaluation_depends_neither_on_rows_nor_on_chunks(options):
  one = make(**options)
  train(one, 30)
  unbroken = float(read_apart(one.model, [TEXT[None].astype(np.int32)])) / (len(TEXT) - 1)
  for length in (9, 200):
    assert evaluate(one, 1, length) == pytest.approx(unbroken, abs=1e-5)
  assert evaluate(one, 32, 64) == pytest.approx(unbroken, abs=1e-4)


def test_evaluating_needs_no_learner():
  one = make()
  assert evaluate_model(PlainScorer(one.model), 4, 50) == evaluate(one, 4, 50)


def test_two_replicas_evaluate_the_same():
  assert evaluate(make('mirrored'), 4, 50) == pytest.approx(evaluate(make(), 4, 50), abs=1e-6)
