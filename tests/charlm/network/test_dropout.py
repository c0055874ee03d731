"""What chance takes from a step follows from seed, step, flag, layer and row, and from nothing else."""
import numpy as np
import pytest
import tensorflow as tf

from charlm.network import dropout
from charlm.network.dropout import Dropout, Noise, keep_mask
from flags.network import ModelConfig
from flags.training import TrainConfig


def test_what_is_kept_follows_the_key_alone():
  shape, key = (50, 8, 18), (3, 4)
  y = keep_mask(shape, 0.25, key).numpy()
  assert y.shape == shape
  assert abs(y.mean() - 0.75) < 0.02
  np.testing.assert_array_equal(y, tf.function(keep_mask, jit_compile=True)(shape, 0.25, key))
  assert (y != keep_mask(shape, 0.25, (3, 5)).numpy()).any()


@pytest.mark.parametrize('draw', [
    lambda noise, rows: noise.keep_mask('zoneout', 0.25, (50, rows, 18)).numpy().swapaxes(0, 1),
    lambda noise, rows: noise.normal('initial_state', rows, 5),
    lambda noise, rows: noise.uniform('reset_probability', rows)])
def test_a_row_draws_the_same_in_any_replica(draw):
  parts = [draw(Noise(3, 4, first, 8), 4) for first in (0, 4)]
  np.testing.assert_array_equal(draw(Noise(3, 4), 8), np.concatenate(parts))


def test_each_flag_layer_and_step_draws_its_own():
  keys = {tuple(Noise(seed, step).key(flag, layer).numpy().tolist()) for seed in (0, 9, 2**31 - 1)
          for step in (0, 1, 2**31, 2**40) for flag in dropout.STREAMS for layer in (0, 1, 2, 999)}
  assert len(keys) == 3 * 4 * len(dropout.STREAMS) * 4


def test_streams_keep_their_numbers():
  """So that the runs of today can be repeated: a new flag gets a new number, and no number changes."""
  first = {'zoneout': 0, 'zoneout_output': 1, 'dropout': 2, 'input_dropout': 3, 'layer_dropout': 4, 'output_dropout': 5,
           'recurrent_dropout': 6, 'embedding_dropout': 7, 'weight_drop': 8, 'reset_probability': 9,
           'initial_state': 10, 'multi_step_input': 11, 'multi_step_mix': 12}
  assert first.items() <= dropout.STREAMS.items()
  assert len(set(dropout.STREAMS.values())) == len(dropout.STREAMS)
  assert dropout.STREAMS.keys() <= {*ModelConfig.__dataclass_fields__, *TrainConfig.__dataclass_fields__}


def test_rates_that_are_no_multiple_of_a_256th():
  assert dropout.drawn(0.3) == 77 / 256 and dropout.scale_of_kept(0.3) == 256 / 179
  assert keep_mask((1, 4, 64), 255 / 256, (0, 0)).numpy().sum() < 9


def test_sequence_masks_hold_for_the_chunk():
  config = ModelConfig(dropout=0.5, zoneout=0.5, dropout_per='sequence')
  drops = Dropout(config, Noise(0, 1))
  stays, moves = (drops.keep_mask(flag, (6, 3, 8)).numpy() for flag in ('dropout', 'zoneout'))
  assert (stays == stays[:1]).all() and 0 < stays[0].sum() < 24
  assert (moves != moves[:1]).any()
