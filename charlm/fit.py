"""Sizes and rates that fit the text and the time, for whoever sets --corpus and --max_minutes and no more.

A rule of thumb through recipes that were tuned on 0.4 to 3 MB of text, for 2 to 120 minutes on 2 cores; benchmarks/ has
their figures. Of the time, D, the tokens that the model takes in meanwhile, and N, the tokens of the text:

    units        grow with the fourth root of the time. The work for a token and the tokens that are worth learning from
                 both grow with the weights (Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models"),
                 and these with the square of the units.
    rows, chunk  grow with the fourth root of D each, so that steps are both larger and more.
    dropout      grows with the logarithm of D / N, the passes over the text, from where it begins to be learned by
                 heart.
"""
import math

from charlm.config import Config

# The recipe that the others are scaled from: --preset=shakespeare_quick.
MINUTES, TOKENS = 2.0, 3.2e6
UNITS, ROWS, CHUNK, LEARNING_RATE, WEIGHT_DECAY = 224, 16, 64, 0.005, 0.1
TOKENS_OF_UNIT = 2  # the text has at least so many for each unit squared, of which there are 8 weights
MOST_UNITS, MOST_ROWS, MOST_CHUNK, MOST_DROPOUT = 1024, 64, 256, 0.5
HARMLESS_PASSES, DROPOUT_OF_TWICE = 3.5, 0.15  # passes up to which nothing is dropped; so much for each doubling
STEPS_OF_PASS = 8  # at least
EVALUATIONS, EVALUATION_SHARE = 20, 0.05  # in a run, at most; of its time, about


def fit(config: Config, given, num_tokens, num_validation_tokens, threads):
  """-> {flag: value} of what is not given, for a run that --max_minutes alone limits; {} for another.

  Args:
    config: all choices so far.
    given: names of the flags that stay as they are.
    num_tokens, num_validation_tokens: of the splits.
    threads: of the processor that the run has.
  """
  train, model = config.train, config.model
  if 'max_minutes' not in given or not train.max_minutes or train.steps or train.epochs:
    return {}
  given = {*given, *(model.__dataclass_fields__ if train.init_from else ()),
           *(['chunk_length'] if config.data.chunk_curriculum else ())}
  power = threads / 2
  units = UNITS * (power * train.max_minutes / MINUTES)**0.25
  units = _nearest(32, min(units, MOST_UNITS, (num_tokens / TOKENS_OF_UNIT)**0.5))
  units = model.units if 'units' in given else units
  speed = power / seconds_per_token(units, model.layers)
  tokens = 60 * train.max_minutes * speed
  scale, passes = (tokens / TOKENS)**0.25, tokens / num_tokens
  chunk = config.data.chunk_length if 'chunk_length' in given else min(MOST_CHUNK, _nearest(16, CHUNK * scale))
  rows = min(MOST_ROWS, _nearest(8, ROWS * scale), max(1, num_tokens // (STEPS_OF_PASS * chunk)))
  steps = tokens / (rows * chunk)
  evaluations = EVALUATION_SHARE * 60 * train.max_minutes * 3 * speed / max(1, num_validation_tokens)
  dropout = DROPOUT_OF_TWICE * math.log2(passes / HARMLESS_PASSES)
  fitted = {'units': units, 'chunk_length': chunk, 'batch_size': rows,
            'dropout': min(MOST_DROPOUT, max(0.0, round(dropout, 1))), 'weight_decay': WEIGHT_DECAY,
            'learning_rate': round(LEARNING_RATE * (UNITS / units)**0.5, 4),
            'eval_every': math.ceil(steps / max(1, min(EVALUATIONS, int(evaluations)))),
            'save_every': math.ceil(steps / 10), 'sample_every': math.ceil(steps / 5)}
  return {name: value for name, value in fitted.items() if name not in given}


def seconds_per_token(units, layers):
  """Of training on 2 cores: benchmarks/README.md, the cost of training per token."""
  return 1e-5 + 1.4e-10 * units**2 * (2 * layers - 1)


def _nearest(n, x):
  """The multiple of n nearest to x, n at least."""
  return max(n, n * round(x / n))
