"""What is refused before a run begins, once its text and its devices are known."""
from typing import Any

from charlm.network.runtime import memory_bytes
from charlm.training.chunks import steps_of_epoch
from flags.config import Config
from flags.errors import UserError
from flags.training import TrainConfig


def check(config: Config, files: dict[str, Any], replicas: int, steps_per_call: int = 1) -> None:
  """Raises UserError where a run cannot be trained as it is configured.

  Args:
    config: all choices.
    files: {split: TokenFile}.
    replicas: devices that share the rows.
    steps_per_call: as the flag.
  """
  check_validation(config, 'valid' in files)
  check_replicas(config, replicas)
  check_memory(config)
  check_steps_per_call(steps_per_call, config.train)
  config.train.check_epochs(steps_of_epoch(config.data, files['train'].num_tokens))


def check_validation(config: Config, has_validation: bool) -> None:
  """Refuses flags that wait for validation losses where there is no validation split."""
  for flag in () if has_validation else config.train.needing_validation():
    raise UserError(f'{flag}: --corpus={config.data.corpus} has no validation split to wait for; expected '
                    '--valid_fraction to cut one, such as --valid_fraction=0.1')


def check_replicas(config: Config, replicas: int) -> None:
  """Refuses rows that the devices cannot share evenly."""
  if config.data.batch_size % replicas:
    raise UserError(f'--batch_size={config.data.batch_size}: expected a multiple of the {replicas} devices of '
                    f'--strategy={config.train.strategy}')


def check_text(identity: dict[str, Any], chief: dict[str, Any]) -> None:
  """Refuses a text or a tokenizer that is not the chief's. Both as of checkpoint.identity."""
  for name, value in chief.items():
    if identity[name] != value:
      was, now = (f'{v[:8]}...' if isinstance(v, str) else v for v in (value, identity[name]))
      raise UserError(f'--strategy=multi_worker: this worker has another {name} than the chief ({now}, of the chief '
                      f'{was}); expected the same --corpus and the same version of charlm everywhere')


def check_steps_per_call(count: int, config: TrainConfig) -> None:
  """Refuses --steps_per_call where no call could take so many, or a step cannot be told in advance what it follows."""
  if count > 1 and config.max_minutes and not config.steps and not config.epochs:
    raise UserError(f'--steps_per_call={count}: the learning rate follows the clock where --max_minutes alone limits a '
                    'run; expected --steps or --epochs, too')
  for name in ('report_every', 'eval_every', 'save_every', 'sample_every'):
    if 0 < (every := getattr(config, name)) < count:
      raise UserError(f'--steps_per_call={count}: expected at most --{name}={every}')


def check_memory(config: Config) -> None:
  """Refuses a model that the memory cannot hold: asking for it would get the process killed without a word."""
  copies = 4 + (config.train.average != 'none')  # weights, gradients, two moments
  needed = 4 * copies * config.model.least_weights
  kept = 4 * config.data.batch_size * max(config.data.lengths) * config.model.units * config.model.layers
  memory = memory_bytes()
  if kept > memory:
    raise UserError(f'--batch_size={config.data.batch_size}: expected fewer rows or shorter chunks: the states of '
                    f'these take {kept / 2**30:,.0f} GiB and more, {memory / 2**30:,.1f} can be used here')
  if needed > memory:
    raise UserError(f'--units={config.model.units} --layers={config.model.layers} --input_units='
                    f'{config.model.input_units} --embedding_size={config.model.embedding_size}: expected a smaller '
                    f'model: weights, gradients and optimizer of this one take {needed / 2**30:,.0f} GiB and more, '
                    f'{memory / 2**30:,.1f} can be used here')
