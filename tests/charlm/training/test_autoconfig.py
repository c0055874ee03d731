"""What fits a text and a time: what is given stays, and more time or text asks for more."""
import itertools

import pytest

from charlm.training import autoconfig
from flags import parse
from flags.config import Config
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.run import PRESETS, RunConfig
from flags.training import TrainConfig

TEXTS, MINUTES = (100, 1_000, 20_000, 400_000, 1_000_000, 3_000_000, 20_000_000), (0.5, 2, 10, 30, 120, 1440)


def configure(given):
  return Config().replace(autoconfig.provisional(given) | given)


def fitted(num_tokens=1_000_000, minutes=10.0, *, vocab_size=256, threads=2, replicas=1, **given):
  given = {'max_minutes': minutes, **given}
  setting = autoconfig.Setting(num_tokens, num_tokens // 9, vocab_size, threads, replicas)
  chosen = autoconfig.choose(configure(given), given, setting)
  whole = configure(given).replace(chosen)  # which checks them
  assert not chosen.keys() & given.keys()
  if chosen:
    assert whole.data.batch_size * max(whole.data.lengths) < num_tokens and whole.data.batch_size % replicas == 0
  return chosen


@pytest.mark.parametrize('num_tokens', TEXTS)
def test_more_time_makes_larger_models_that_drop_more(num_tokens):
  for less, more in itertools.pairwise(fitted(num_tokens, minutes) for minutes in MINUTES):
    for name in 'units', 'dropout', 'activation_penalty', 'chunk_length':
      assert less[name] <= more[name]
    assert less['learning_rate'] >= more['learning_rate']


@pytest.mark.parametrize('minutes', MINUTES)
def test_more_text_makes_larger_models_that_drop_less(minutes):
  for less, more in itertools.pairwise(fitted(num_tokens, minutes) for num_tokens in TEXTS):
    assert less['dropout'] >= more['dropout'] and less['units'] <= more['units']


def test_more_threads_are_more_time():
  twice, slower = fitted(minutes=20.0), fitted(threads=4)
  assert twice['units'] == slower['units'] and twice['dropout'] == slower['dropout']
  assert fitted(threads=64) == fitted(threads=autoconfig.MAX_THREADS)


@pytest.mark.parametrize('slower', [
  dict(vocab_size=30_000), dict(cell='lstm'), dict(layers=4), dict(document_reset=True), dict(multi_step=5),
  dict(multi_step=5, professor_forcing=1.0), dict(units=640), dict(chunk_overlap=60)], ids=str)
def test_what_costs_more_reads_the_text_less_often(slower):
  assert fitted(**slower)['dropout'] < fitted()['dropout']


def test_masks_for_sequences_have_something_to_drop():
  assert not fitted(20_000_000)['dropout']
  assert fitted(20_000_000, dropout_per='sequence')['dropout'] == autoconfig.MIN_DROPOUT


def test_what_is_given_stays_and_the_rest_fits_it():
  assert fitted(chunk_length=400)['batch_size'] == fitted()['batch_size']
  assert fitted(3_000, chunk_length=300)['batch_size'] == 1
  assert fitted(batch_size=1)['eval_every'] > 20 * fitted(batch_size=256)['eval_every']
  assert fitted(minutes=1.0, chunk_overlap=80, multi_step=90)['chunk_length'] == 160
  assert fitted(minutes=1.0, multi_step=90)['chunk_length'] == 91
  assert fitted(chunk_curriculum='200,400', chunk_overlap=150)['batch_size'] == fitted()['batch_size']
  assert fitted(20_000, chunk_curriculum='100,1000')['batch_size'] == 2
  assert fitted(5_000, batch_size=64)['chunk_length'] == 78
  assert fitted(150, replicas=2)['chunk_length'] == 74
  assert 'chunk_length' not in fitted(chunk_curriculum='20,40')
  assert fitted(6_000, 2.0)['batch_size'] == 9 and fitted(6_000, 2.0, replicas=2)['batch_size'] == 8
  assert not fitted(optimizer='ftrl').keys() & {'learning_rate', 'weight_decay'}
  follows = {*ModelConfig.__dataclass_fields__, 'learning_rate', 'weight_decay'}
  assert not fitted(init_from='other').keys() & follows


@pytest.mark.parametrize('given', [dict(steps=5), dict(epochs=1.0), dict(minutes=0.0)])
def test_other_limits_leave_the_defaults(given):
  assert fitted(**given) == {}


def test_a_configuration_that_was_saved_stays():
  saved, setting = Config(train=TrainConfig(max_minutes=3.0)), autoconfig.Setting(1_000_000, 0, 256, 2)
  assert autoconfig.choose(saved, {}, setting) == {}


@pytest.mark.parametrize('name', sorted(PRESETS.keys() - {'default', 'demo'}))
def test_recipes_that_were_tuned_stay(name):
  given = parse.parse(['charlm-train', f'--preset={name}'], (RunConfig, DataConfig, ModelConfig, TrainConfig))
  del given['preset']
  assert autoconfig.choose(configure(given), given, autoconfig.Setting(1_000_000, 100_000, 65, 2)) == {}


def test_evaluations_take_a_small_share_of_the_time_and_kills_lose_little():
  for num_tokens, minutes in itertools.product(TEXTS, MINUTES):
    chosen = fitted(num_tokens, minutes)
    second = autoconfig.seconds_per_token(Config(), chosen['units'], 256)
    step = chosen['batch_size'] * chosen['chunk_length'] * second
    evaluations = 60 * minutes / step / chosen['eval_every'] if chosen['eval_every'] else 0
    assert evaluations <= autoconfig.MAX_EVALUATIONS + 1
    assert evaluations * num_tokens / 9 * second / 3 < 0.06 * 60 * minutes
    assert chosen['save_every'] * step <= autoconfig.SAVE_SECONDS + step
  hurried, patient, other = (fitted(20_000_000, 0.5, patience=n)['eval_every'] for n in (0, 2, 3))
  assert hurried == 0 and 5 * other == pytest.approx(4 * patient, abs=5)  # one more than must be


def test_names_that_are_no_flags_are_not_replaced():
  with pytest.raises(AssertionError):
    Config().replace({'lengths': 3})
