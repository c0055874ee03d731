"""What fits a text and a time: what is given stays, and more time or text asks for more."""
import itertools

import pytest

from charlm import fit
from charlm.config import Config, DataConfig, ModelConfig, TrainConfig

TEXTS, MINUTES = (1_000, 20_000, 400_000, 1_000_000, 3_000_000, 20_000_000), (0.5, 2, 10, 30, 120, 1440)


def fitted(num_tokens=1_000_000, minutes=10.0, threads=2, config=None, **given):
  groups = {'data': DataConfig, 'model': ModelConfig, 'train': TrainConfig}
  given = {'max_minutes': minutes, **given}
  config = Config(**{name: group(**{k: v for k, v in given.items() if k in group.__dataclass_fields__})
                     for name, group in groups.items()})
  chosen = fit.fit(config, given, num_tokens, num_tokens // 9, threads)
  config.replace(chosen)  # which checks them
  assert not chosen.keys() & given.keys()
  return chosen


@pytest.mark.parametrize('num_tokens', TEXTS)
def test_more_time_makes_larger_models_that_drop_more(num_tokens):
  for less, more in itertools.pairwise(fitted(num_tokens, minutes) for minutes in MINUTES):
    for name in 'units', 'dropout', 'chunk_length':
      assert less[name] <= more[name]
    assert less['learning_rate'] >= more['learning_rate']


@pytest.mark.parametrize('minutes', MINUTES)
def test_more_text_makes_models_that_drop_less(minutes):
  for less, more in itertools.pairwise(fitted(num_tokens, minutes) for num_tokens in TEXTS):
    assert less['dropout'] >= more['dropout'] and less['units'] <= more['units']


def test_more_threads_are_more_time():
  twice, slower = fitted(minutes=20.0), fitted(minutes=10.0, threads=4)
  assert twice['units'] == slower['units'] and twice['dropout'] == slower['dropout']


def test_what_is_given_stays_and_the_rest_fits_it():
  assert fitted(units=64)['dropout'] > fitted()['dropout']  # which reads the text more often
  assert fitted(chunk_length=400)['batch_size'] == fitted()['batch_size']
  assert fitted(3_000, chunk_length=300)['batch_size'] == 1
  assert 'chunk_length' not in fitted(chunk_curriculum='20,40')
  assert not fitted(init_from='other').keys() & ModelConfig.__dataclass_fields__.keys()


@pytest.mark.parametrize('given', [dict(steps=5), dict(epochs=1.0), dict(minutes=0.0)])
def test_other_limits_leave_the_defaults(given):
  assert fitted(**given) == {}


def test_a_configuration_that_was_saved_stays():
  assert fit.fit(Config(train=TrainConfig(max_minutes=3.0)), {}, 1_000_000, 0, 2) == {}


def test_evaluations_take_a_small_share_of_the_time():
  for num_tokens, minutes in itertools.product(TEXTS, MINUTES):
    chosen = fitted(num_tokens, minutes)
    step = chosen['batch_size'] * chosen['chunk_length'] * fit.seconds_per_token(chosen['units'], 2)
    evaluations = 60 * minutes / step / chosen['eval_every']
    assert evaluations <= fit.EVALUATIONS + 1
    one = num_tokens / 9 * fit.seconds_per_token(chosen['units'], 2) / 3
    assert evaluations < 1.5 or evaluations * one < 0.06 * 60 * minutes
