"""Keras optimizers by name, weight decay, the learning rate over a run, and clipping."""
import collections
import inspect
import json

import keras
import tensorflow as tf

from flags.errors import UserError
from flags.training import TrainConfig

HISTORY = 10_000  # norms that --clip_percentile looks back on


def optimizers():
  """{lower-case name: class} of the Keras optimizers that a learning rate is enough for."""
  classes = {name.lower(): c for name, c in vars(keras.optimizers).items() if isinstance(c, type)}
  # Muon asks each variable for the path that Keras layers give theirs. ScheduleFreeAdamW trains other weights than are
  # to be used, and has no way to ask for those.
  return {name: c for name, c in classes.items()
          if name not in ('muon', 'schedulefreeadamw') and 'learning_rate' in _parameters(c)
          and all(p.default is not p.empty for p in _parameters(c).values() if p.kind != p.VAR_KEYWORD)}


def _parameters(optimizer_class):
  return inspect.signature(optimizer_class).parameters


def make_optimizer(config: TrainConfig, variables):
  """The Keras optimizer of `choose_optimizer`, for these variables. Errors as there.

  Weights are matrices; gains, biases and initial states are vectors, and do not decay.
  """
  optimizer = choose_optimizer(config)
  optimizer.exclude_from_weight_decay([v for v in variables if v.shape.rank < 2])
  optimizer.build(variables)
  _set_paths(optimizer)
  return optimizer


def _set_paths(optimizer):
  """Gives each variable a path of its own, which checkpoints ask for.

  In Keras's Adafactor the row and the column factors of a weight have the same one.
  """
  seen = collections.Counter()
  for variable in optimizer.variables:
    path = variable.path.removesuffix(':0')
    variable._path = f'{path}_{seen[path]}' if seen[path] else path
    seen[path] += 1


def choose_optimizer(config: TrainConfig):
  """The Keras optimizer that --optimizer names, with its constants. Raises UserError for what Keras does not know."""
  known = optimizers()
  if config.optimizer.lower() not in known:
    raise UserError(f'--optimizer={config.optimizer}: expected one of {", ".join(sorted(known))}')
  chosen = known[config.optimizer.lower()]
  common = set.intersection(*(set(_parameters(c)) for c in known.values()))  # which charlm has flags for
  defaults = {name: p.default for name, p in _parameters(chosen).items() if name not in common}
  constants = {'weight_decay': config.weight_decay} if config.weight_decay else {}
  try:
    for word in filter(None, config.optimizer_constants.split(',')):
      name, _, text = word.strip().partition('=')
      constants[name] = _constant(name, json.loads(text.lower()), defaults[name])
    # Named, because Keras numbers the names of further optimizers in a process, and checkpoints hold them.
    return chosen(name='optimizer', **constants)
  except (KeyError, ValueError):
    raise UserError(
        f'--optimizer_constants={config.optimizer_constants}: expected NAME=VALUE[,NAME=VALUE...] that Keras takes for '
        f'{chosen.__name__}, of {", ".join(f"{k}={v}" for k, v in defaults.items())}; momentum and its kin are '
        'at least 0 and less than 1') from None


def _constant(name, value, default):
  """The value as the type of its default. Raises ValueError for another type, or a rate of decay that is none."""
  if isinstance(default, float) and type(value) is int:
    value = float(value)
  decays = name in ('momentum', 'rho', 'beta_1', 'beta_2')
  if type(value) is not type(default) or value != value or (decays and not 0 <= value < 1):
    raise ValueError(f'{name}={value}')
  return value


def learning_rate(config: TrainConfig, step, progress, scale=1.0):
  """The learning rate of one step.

  Args:
    step: steps done so far, scalar.
    progress: share of the run that is done, scalar float32 from 0 to 1.
    scale: what plateaus have left of it, scalar float32.
  """
  rate, last = config.learning_rate, config.final_fraction
  schedules = {
      'constant': lambda progress: tf.constant(rate),
      'cosine': keras.optimizers.schedules.CosineDecay(rate, 1.0, alpha=last),
      'linear': keras.optimizers.schedules.PolynomialDecay(rate, 1.0, rate * last),
      'plateau': lambda progress: rate * scale}
  rate = schedules[config.schedule](progress)
  if config.warmup_steps:
    rate *= tf.minimum(1.0, (tf.cast(step, tf.float32) + 1) / config.warmup_steps)
  return rate


class Clipper:
  """Scales gradients down to a global norm: a fixed one, or a percentile of the norms so far, this one included.

  The latter is AutoClip (Seetharaman et al. 2020), over the last 10,000 norms at most: [HISTORY] numbers, a ring, in
  `variables`, which the next step depends on.
  """

  def __init__(self, config: TrainConfig):
    self.config, self.variables = config, []
    if config.clip_percentile:
      self.norms = tf.Variable(tf.zeros(HISTORY), trainable=False, name='norms',
                               aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)  # they are the same in all
      self.variables = [self.norms]

  def __call__(self, gradients, step):
    """-> gradients, and their norm before they were clipped. step: how many were done before, scalar int32."""
    norm, limit = tf.linalg.global_norm(gradients), self.config.clip_norm
    if self.config.clip_percentile:
      norms = tf.where(tf.range(HISTORY) == step % HISTORY, norm, self.norms)
      self.norms.assign(norms)
      limit = percentile(norms, tf.minimum(step + 1, HISTORY), self.config.clip_percentile)
    if self.config.clip_percentile or limit:
      # A norm of 0 may meet a limit of 0. One that is not a number stays that, and stops the run.
      scale = tf.minimum(1.0, tf.math.divide_no_nan(limit, norm))
      gradients = [g * scale for g in gradients]
    return gradients, norm


def percentile(values, count, percent):
  """The percentile of the first `count` of values [N] float32, none below 0, between neighbours linearly."""
  place = percent / 100 * tf.cast(count - 1, tf.float32)
  below = tf.cast(place, tf.int32)
  low, high = tf.unstack(_smallest(values, count, tf.stack([below, tf.minimum(below + 1, count - 1)])))
  return low + (high - low) * (place - tf.floor(place))


def _smallest(values, count, ranks):
  """The numbers that would have these ranks [R] (0 is the least) if the first `count` of values [N] were sorted.

  Floats from 0 up are ordered as their bits, which are found here from the highest down. XLA sorts 10,000 numbers in
  6 ms and more on a CPU; this takes less than 0.5.
  """
  bits = tf.where(tf.range(values.shape[0]) < count, tf.bitcast(values, tf.int32), tf.int32.max)
  found = tf.zeros_like(ranks)
  for bit in reversed(range(31)):
    trial = found + 2**bit
    smaller = tf.math.count_nonzero(bits < trial[:, None], -1, dtype=tf.int32)
    found = tf.where(smaller <= ranks, trial, found)
  return tf.bitcast(found, tf.float32)
