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

from flags.config import Config
from flags.data import DataConfig
from flags.network import GATES

# The recipe that the others are scaled from: --preset=shakespeare_quick, with the weight decay that many passes want.
MINUTES, TOKENS = 2.0, 3.2e6
UNITS, ROWS, CHUNK, LEARNING_RATE, WEIGHT_DECAY = 224, 16, 64, 0.005, 0.4
TOKENS_OF_UNIT = 2  # the text has at least so many for each unit squared, of which there are 9 weights
MOST_UNITS, MOST_ROWS, MOST_CHUNK, MOST_DROPOUT = 1024, 64, 256, 0.3
HARMLESS_PASSES, DROPOUT_OF_TWICE = 3.5, 0.05  # passes up to which nothing is dropped; so much for each doubling
LEAST_DROPOUT = 0.01
PENALTY_OF_DROPOUT, MOST_PENALTY = 10, 1.0
MOST_THREADS = 16  # that are counted on: more have not been measured, and rows are too few to share among
STEPS_OF_PASS = 8  # at least
EVALUATIONS, EVALUATION_SHARE = 20, 0.05  # in a run, at most; of its time, about
SAVE_SECONDS = 300  # what a kill may lose, at most
RATED = 'adam', 'adamw', 'nadam'  # optimizers that the learning rate suits


def fit(config: Config, given, num_tokens, num_validation_tokens, vocab_size, *, threads, replicas=1):
  """-> {flag: value} of what is not given, for a run that --max_minutes alone limits; {} for another.

  Args:
    config: all choices so far.
    given: the flags that stay as they are, {name: value}.
    num_tokens, num_validation_tokens: of the splits.
    vocab_size: of the tokenizer.
    threads: of the processor, that the run has.
    replicas: that share the rows.
  """
  data, model, train = config.data, config.model, config.train
  if not fits(given):
    return {}
  given, seconds, power = set(given), 60 * train.max_minutes, min(threads, MOST_THREADS) / 2
  if train.init_from:  # whose network it is, and what it knows shall not be decayed away
    given |= {*model.__dataclass_fields__, 'learning_rate', 'weight_decay'}
  if train.optimizer.lower() not in RATED:
    given |= {'learning_rate', 'weight_decay'}

  def choose(name, value):
    return getattr(data if hasattr(data, name) else model, name) if name in given else value

  units = min(MOST_UNITS, UNITS * (power * train.max_minutes / MINUTES)**0.25, (num_tokens / TOKENS_OF_UNIT)**0.5)
  units = choose('units', _nearest(32, units))
  speed = power / seconds_per_token(config, units, vocab_size)
  tokens = seconds * speed
  scale = (tokens / TOKENS)**0.25
  fullest = (num_tokens - 1) // max(replicas, data.batch_size if 'batch_size' in given else 1)
  chunk = max(1, min(MOST_CHUNK, _nearest(16, CHUNK * scale), fullest))
  chunk = choose('chunk_length', max(chunk, 2 * data.chunk_overlap, train.multi_step + 1))
  lengths = data.lengths if data.chunk_curriculum else (chunk,)
  rows = min(MOST_ROWS, _nearest(8, ROWS * scale), num_tokens // (STEPS_OF_PASS * max(lengths)))
  rows = choose('batch_size', max(rows // replicas, 1) * replicas)
  length = statistics.mean(lengths)
  steps, passes = tokens / (rows * length), tokens * (1 - data.chunk_overlap / length) / num_tokens
  least = LEAST_DROPOUT if model.dropout_per == 'sequence' else 0.0  # which asks for some
  dropout = min(MOST_DROPOUT, max(least, round(DROPOUT_OF_TWICE * math.log2(passes / HARMLESS_PASSES), 2)))
  evaluations = int(min(EVALUATIONS, EVALUATION_SHARE * seconds * 3 * speed / max(1, num_validation_tokens)))
  evaluations = max(evaluations, max(train.waits().values(), default=-1) + 1)
  saves = max(10, seconds / SAVE_SECONDS)
  fitted = {'units': units, 'chunk_length': chunk, 'batch_size': rows,
            'dropout': dropout, 'recurrent_dropout': dropout,
            'activation_penalty': min(MOST_PENALTY, round(PENALTY_OF_DROPOUT * dropout, 1)),
            'weight_decay': WEIGHT_DECAY,
            'learning_rate': round(LEARNING_RATE * (UNITS / units)**0.5, 4),
            'eval_every': math.ceil(steps / evaluations) if evaluations else 0,
            'save_every': math.ceil(steps / saves), 'sample_every': math.ceil(steps / 5)}
  if data.chunk_curriculum:
    del fitted['chunk_length']
  return {name: value for name, value in fitted.items() if name not in given}


def fits(given):
  """Whether --max_minutes alone limits a run with the given flags, {name: value}."""
  return bool(given.get('max_minutes')) and not given.get('steps') and not given.get('epochs')


def provisional(given):
  """{flag: value} to check the given flags with where the defaults will not hold, as `fit` chooses others."""
  if not fits(given):
    return {}
  values = {'dropout': DROPOUT_OF_TWICE, 'recurrent_dropout': DROPOUT_OF_TWICE}
  if not given.get('chunk_curriculum'):
    values['chunk_length'] = max(DataConfig.chunk_length, 2 * given.get('chunk_overlap', 0),
                                 given.get('multi_step', 0) + 1)
  return {name: value for name, value in values.items() if name not in given}


def seconds_per_token(config: Config, units, vocab_size):
  """Of training on 2 cores: benchmarks/README.md, the cost of training per token."""
  model, train = config.model, config.train
  products = GATES[model.cell] * (2 * model.layers - 1) * units**2 + vocab_size * units
  native = (model.cell == 'gru' and model.layer_norm and model.norm == 'separate' and not config.data.document_reset
            and model.compute_dtype == 'float32')
  slower = (1.0 if native else 1.4) * (2.6 if train.multi_step else 1) * (2.2 if train.professor_forcing else 1)
  return slower * (1e-5 + 4.7e-11 * products)


def evaluation_seconds(config: Config, num_tokens, vocab_size, threads):
  """Of so many tokens, about: three times as fast as training."""
  return num_tokens * seconds_per_token(config, config.model.units, vocab_size) / (3 * min(threads, MOST_THREADS) / 2)


def _nearest(n, x):
  """The multiple of n nearest to x, n at least."""
  return max(n, n * round(x / n))
