"""Keras optimizers by name, their constants, and weight decay."""
import collections
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from charlm.training.muon import Muon
from flags.errors import UserError
from flags.training import TrainConfig


def optimizers() -> dict[str, type]:
  """{lower-case name: class} of the Keras optimizers that a learning rate is enough for, and of our Muon."""
  classes = {name.lower(): c for name, c in vars(keras.optimizers).items() if isinstance(c, type)}
  # ScheduleFreeAdamW trains other weights than are to be used, and has no way to ask for those.
  known = {name: c for name, c in classes.items() if name != 'schedulefreeadamw' and 'learning_rate' in _parameters(c)
           and all(p.default is not p.empty for p in _parameters(c).values() if p.kind != p.VAR_KEYWORD)}
  return known | {'muon': Muon}  # Keras's knows nothing of gates


def _parameters(optimizer_class: type) -> Mapping[str, inspect.Parameter]:
  return inspect.signature(optimizer_class).parameters


def make_optimizer(config: TrainConfig, variables: Sequence[tf.Variable]) -> keras.optimizers.Optimizer:
  """The Keras optimizer of `choose_optimizer`, for these variables. Errors as there.

  Weights are matrices; gains, biases and initial states are vectors, and do not decay.
  """
  optimizer = choose_optimizer(config)
  optimizer.exclude_from_weight_decay([v for v in variables if v.shape.rank < 2])
  optimizer.build(variables)
  _set_paths(optimizer)
  return summed_already(optimizer)


def summed_already(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
  """The optimizer, which takes its gradients as they are: Keras would add them up over the replicas.

  charlm has done that, to clip what all replicas have found; a second sum would be as much traffic again.
  """
  assert callable(getattr(optimizer, '_all_reduce_sum_gradients', None)), keras.__version__
  optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
  return optimizer


def _set_paths(optimizer: keras.optimizers.Optimizer) -> None:
  """Gives each variable a path of its own, which checkpoints ask for.

  In Keras's Adafactor the row and the column factors of a weight have the same one.
  """
  seen: collections.Counter[str] = collections.Counter()
  for variable in optimizer.variables:
    path = variable.path.removesuffix(':0')
    variable._path = f'{path}_{seen[path]}' if seen[path] else path
    seen[path] += 1


def choose_optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
  """The Keras optimizer that --optimizer names, with its constants. Raises UserError for what Keras does not know."""
  known = optimizers()
  if config.optimizer.lower() not in known:
    raise UserError(f'--optimizer={config.optimizer}: expected one of {", ".join(sorted(known))}')
  chosen = known[config.optimizer.lower()]
  # What charlm has flags for.
  common = set.intersection(*(set(_parameters(c)) for c in known.values() if c is not Muon)) | {'options'}
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


def _constant(name: str, value: Any, default: Any) -> Any:
  """The value as the type of its default. Raises ValueError for another type, or a rate of decay that is none."""
  if isinstance(default, float) and type(value) is int:
    value = float(value)
  decays = name in ('momentum', 'rho', 'beta_1', 'beta_2', 'adam_beta_1', 'adam_beta_2')
  if type(value) is not type(default) or value != value or (decays and not 0 <= value < 1):
    raise ValueError(f'{name}={value}')
  return value
