"""Monte Carlo dropout against a plain loop: each pass draws its masks and carries its state."""
import numpy as np
import pytest
import tensorflow as tf

import references
import slow_model
from charlm.evaluation import scoring
from charlm.evaluation.mc_dropout import McDropoutScorer
from charlm.network.dropout import Noise
from data_pipeline import streams
from data_pipeline.rows import evaluation_rows
from flags.network import ModelConfig

V = 7
TEXT = (np.random.default_rng(0).integers(0, 2, 90).cumsum() % V).astype(np.uint8)
RATES = dict(dropout=0.5, recurrent_dropout=0.3, zoneout=0.2)


def make(**options):
  return slow_model.random_model(V, units=6, **options)


def stream(batch_size, length, starts=None):
  """-> batches of the text, and its rows."""
  rows = evaluation_rows(len(TEXT), batch_size, length)
  return streams.evaluation_stream(TEXT, rows, length=length, starts=starts), rows


def nats_of(one, passes, seed, starts=None):
  return scoring.accumulate(McDropoutScorer(one, passes=passes, seed=seed), *stream(1, 30, starts))[0]


def begin_of_rows(one, rows, passes, p):
  """The states in which each row begins, in pass p: the text is read as often as there are rows."""
  begins = one.initial_state(rows)
  for _ in range(rows):
    states = begins
    for i, batch in enumerate(stream(rows, 16)[0] if rows > 1 else ()):
      _, states = one(batch.tokens[:, :-1], one.reset(states, batch.reset), Noise(4, i * passes + p))
    begins = tf.nest.map_structure(lambda s: tf.roll(s, 1, 0), states)
  return begins


@pytest.mark.parametrize('rows,length,passes,options', [
  (1, 20, 1, RATES), (1, 7, 3, dict(RATES, cell='lstm', zoneout_output=0.2, weight_drop=0.4)),
  (3, 16, 5, dict(RATES, dropout_per='sequence', embedding_dropout=0.3))], ids=str)
def test_agrees_with_a_plain_loop(rows, length, passes, options):
  one, total = make(**options), 0.0
  batches, cut = stream(rows, length)
  states = {p: begin_of_rows(one, rows, passes, p) for p in range(passes)}
  for i, batch in enumerate(batches):
    probabilities = []
    for p in range(passes):
      state = one.reset(states[p], batch.reset)
      outputs, states[p] = one(batch.tokens[:, :-1], state, Noise(4, i * passes + p))
      logits = outputs.logits.numpy().astype(np.float64)
      probabilities.append(np.exp(-references.nats(logits, batch.tokens.numpy()[:, 1:])))
    total -= (np.log(np.mean(probabilities, 0)) * batch.weight.numpy()).sum()
  nats, tokens = scoring.accumulate(McDropoutScorer(one, passes=passes, seed=4), batches, cut)
  assert tokens == len(TEXT) - 1
  assert nats == pytest.approx(total, rel=1e-4)


def test_documents_start_without_noise():
  starts = np.array([0, 10, 11, 50])
  noisy, calm = (make(initial_state=kind, **RATES) for kind in ('noise', 'zeros'))
  for to, value in zip(noisy.trainable_variables, calm.trainable_variables, strict=True):
    to.assign(value)
  for one in noisy, calm:
    for layer in one.recurrent_layers:
      layer.initial.assign(tf.zeros_like(layer.initial))
  got = [nats_of(one, 2, 4, starts) for one in (noisy, calm)]
  assert got[0] == got[1] and noisy.config.initial_state == 'noise'


@pytest.mark.slow
def test_seeds_differ_and_passes_help():
  """The mean of probabilities is at least as likely as the mean of log probabilities: more passes, less loss."""
  one = make(**RATES)
  single = [nats_of(one, 1, seed) for seed in range(4)]
  assert len(set(single)) == 4
  assert nats_of(one, 1, 0) == single[0]
  assert nats_of(one, 30, 0) < np.mean(single)


@pytest.mark.parametrize('name', ['dropout', 'recurrent_dropout', 'zoneout', 'embedding_dropout', 'weight_drop'])
def test_a_model_knows_whether_it_drops(name):
  assert ModelConfig(**{name: 0.1}).drops and not ModelConfig().drops
