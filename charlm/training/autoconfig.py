"""Sizes and rates that fit the text and the time, for whoever sets --corpus and --max_minutes and no more.

A rule of thumb, through recipes that were tuned on 0.3 to 3 MB of text for 2 to 120 minutes on 2 cores, and a guess
beyond that; the figures are in benchmarks/README.md. Of the time, D, the tokens that the model takes in meanwhile, and
N, those of the text:

    units        grow with the fourth root of the time. The work for a token and the tokens that are worth learning from
                 both grow with the weights (Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models"),
                 and these with the square of the units.
    rows, chunk  grow with the fourth root of D each, so that steps are both larger and more.
    dropout      and recurrent dropout grow with the logarithm of D / N, the passes over the text, from where it begins
                 to be learned by heart; the activation penalty grows with them.
"""
import math
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from flags.config import Config
from flags.data import DataConfig
from flags.network import GATES

# The recipe that the others are scaled from: --preset=shakespeare_quick, with the weight decay that many passes want.
MINUTES, TOKENS = 2.0, 3.2e6
UNITS, ROWS, CHUNK, LEARNING_RATE, WEIGHT_DECAY = 224, 16, 64, 0.005, 0.4
TOKENS_OF_UNIT = 2  # so many tokens of text for each H^2, at least; the model has about 9 H^2 weights
MAX_UNITS, MAX_ROWS, MAX_CHUNK, MAX_DROPOUT = 1024, 64, 256, 0.3
HARMLESS_PASSES, DROPOUT_OF_TWICE = 3.5, 0.05  # passes up to which nothing is dropped; rate for each doubling of them
MIN_DROPOUT = 0.01
PENALTY_OF_DROPOUT, MAX_PENALTY = 10, 1.0
MAX_THREADS = 16  # the most that are counted on: more have not been measured, and rows are too few to share among
MIN_STEPS_OF_PASS = 8  # in a pass over the text, at least
MAX_EVALUATIONS, EVALUATION_SHARE = 20, 0.05  # in a run, at most; of its time, about
SAVE_SECONDS = 300  # what a kill may lose, at most
RATED = 'adam', 'adamw', 'nadam'  # optimizers that LEARNING_RATE suits


class Setting(NamedTuple):
  """What a run is fitted to."""
  tokens: int  # of the training split
  validation_tokens: int
  vocab_size: int
  threads: int  # of the processor, that the run has
  replicas: int = 1  # that share the rows

  @property
  def speedup(self) -> float:
    """How much faster it is than the 2 cores that the rule was measured on."""
    return min(self.threads, MAX_THREADS) / 2


def choose(config: Config, given: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
  """What fits a run that --max_minutes alone limits.

  Args:
    config: all choices so far.
    given: the flags that stay as they are, {name: value}.
    setting: the text and the machine.

  Returns:
    {flag: value} of what is not given; {} for a run with another limit.
  """
  if not applies(given):
    return {}
  fixed = _fixed(config, given)
  sizes, speed = _sizes(config, fixed, setting)
  tokens = 60 * config.train.max_minutes * speed  # that the run trains on
  data = config.data
  length = statistics.mean(data.lengths if data.chunk_curriculum else (sizes['chunk_length'],))
  steps = tokens / (sizes['batch_size'] * length)
  passes = tokens * (1 - data.chunk_overlap / length) / setting.tokens
  chosen = {**sizes, **_regularisation(config, passes), 'weight_decay': WEIGHT_DECAY,
            'learning_rate': round(LEARNING_RATE * (UNITS / sizes['units'])**0.5, 4),
            **_intervals(config, steps, speed, setting)}
  if data.chunk_curriculum:
    del chosen['chunk_length']
  return {name: value for name, value in chosen.items() if name not in fixed}


def _fixed(config: Config, given: Mapping[str, Any]) -> set[str]:
  """The names of the flags that keep their values."""
  fixed = set(given)
  if config.train.init_from:  # whose network it is, and what it knows is not to be decayed away
    fixed |= {*config.model.__dataclass_fields__, 'learning_rate', 'weight_decay'}
  if config.train.optimizer.lower() not in RATED:
    fixed |= {'learning_rate', 'weight_decay'}
  return fixed


def _sizes(config: Config, fixed: set[str], setting: Setting) -> tuple[dict[str, int], float]:
  """-> {units, chunk_length, batch_size}, and the speed in tokens per second that they make."""
  data, model, train = config.data, config.model, config.train

  def unless_fixed(name: str, value: int) -> int:
    return getattr(data if hasattr(data, name) else model, name) if name in fixed else value

  by_time = UNITS * (setting.speedup * train.max_minutes / MINUTES)**0.25
  units = min(MAX_UNITS, by_time, (setting.tokens / TOKENS_OF_UNIT)**0.5)
  units = unless_fixed('units', _nearest(32, units))
  speed = setting.speedup / seconds_per_token(config, units, setting.vocab_size)
  scale = (60 * train.max_minutes * speed / TOKENS)**0.25
  longest = (setting.tokens - 1) // max(setting.replicas, data.batch_size if 'batch_size' in fixed else 1)
  chunk = max(1, min(MAX_CHUNK, _nearest(16, CHUNK * scale), longest))
  chunk = unless_fixed('chunk_length', max(chunk, 2 * data.chunk_overlap, train.multi_step + 1))
  lengths = data.lengths if data.chunk_curriculum else (chunk,)
  rows = min(MAX_ROWS, _nearest(8, ROWS * scale), setting.tokens // (MIN_STEPS_OF_PASS * max(lengths)))
  rows = unless_fixed('batch_size', max(rows // setting.replicas, 1) * setting.replicas)
  return {'units': units, 'chunk_length': chunk, 'batch_size': rows}, speed


def _regularisation(config: Config, passes: float) -> dict[str, float]:
  """Dropout and what goes with it, for so many passes over the text."""
  least = MIN_DROPOUT if config.model.dropout_per == 'sequence' else 0.0  # which asks for some
  dropout = min(MAX_DROPOUT, max(least, round(DROPOUT_OF_TWICE * math.log2(passes / HARMLESS_PASSES), 2)))
  return {'dropout': dropout, 'recurrent_dropout': dropout,
          'activation_penalty': min(MAX_PENALTY, round(PENALTY_OF_DROPOUT * dropout, 1))}


def _intervals(config: Config, steps: float, speed: float, setting: Setting) -> dict[str, int]:
  """How often to evaluate, save and sample in so many steps, at so many tokens per second."""
  seconds = 60 * config.train.max_minutes
  evaluations = int(min(MAX_EVALUATIONS, EVALUATION_SHARE * seconds * 3 * speed / max(1, setting.validation_tokens)))
  evaluations = max(evaluations, max(config.train.waits().values(), default=-1) + 1)
  saves = max(10, seconds / SAVE_SECONDS)
  return {'eval_every': math.ceil(steps / evaluations) if evaluations else 0,
          'save_every': math.ceil(steps / saves), 'sample_every': math.ceil(steps / 5)}


def applies(given: Mapping[str, Any]) -> bool:
  """Whether --max_minutes alone limits a run with the given flags, {name: value}."""
  return bool(given.get('max_minutes')) and not given.get('steps') and not given.get('epochs')


def provisional(given: Mapping[str, Any]) -> dict[str, Any]:
  """{flag: value} to check the given flags with, before the text is known and `choose` can choose."""
  if not applies(given):
    return {}
  values = {'dropout': DROPOUT_OF_TWICE, 'recurrent_dropout': DROPOUT_OF_TWICE}
  if not given.get('chunk_curriculum'):
    values['chunk_length'] = max(DataConfig.chunk_length, 2 * given.get('chunk_overlap', 0),
                                 given.get('multi_step', 0) + 1)
  return {name: value for name, value in values.items() if name not in given}


def seconds_per_token(config: Config, units: int, vocab_size: int) -> float:
  """The seconds that training takes for a token on 2 cores: benchmarks/README.md, the cost of training per token."""
  model, train = config.model, config.train
  products = GATES[model.cell] * (2 * model.layers - 1) * units**2 + vocab_size * units
  native = (model.cell == 'gru' and model.layer_norm and model.norm == 'separate' and not config.data.document_reset
            and model.compute_dtype != 'bfloat16')
  slower = (1.0 if native else 1.4) * (2.6 if train.multi_step else 1) * (2.2 if train.professor_forcing else 1)
  return slower * (1e-5 + 4.7e-11 * products)


def evaluation_seconds(config: Config, setting: Setting) -> float:
  """The seconds that the validation split takes, about: evaluation is three times as fast as training."""
  seconds = setting.validation_tokens * seconds_per_token(config, config.model.units, setting.vocab_size)
  return seconds / (3 * setting.speedup)


def _nearest(n: int, x: float) -> int:
  """The multiple of n nearest to x, n at least."""
  return max(n, n * round(x / n))
