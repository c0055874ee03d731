"""A trained model, opened: its configuration, its tokenizer and its weights, which must belong together."""
import sys
from typing import NamedTuple

from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.workdir import checkpoint, layout, variables
from charlm.workdir.names import Folder
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.registry import load_tokenizer
from flags.config import Config
from flags.errors import UserError

# Of a checkpoint, what those read who open a model.
STATE = {'step': 0, 'best_step': 0, 'best_nats': None, 'tokenizer': '', 'text': ''}


class Weights(NamedTuple):
  """The weights of a trained model, and what it takes to use them."""
  config: Config
  tokenizer: Tokenizer
  arrays: variables.Arrays
  state: checkpoint.State  # of the checkpoint: step, best_nats, ...
  taken: str  # 'best' or 'last': last too where the best weights were damaged, or there were none yet


class TrainedModel(NamedTuple):
  """A trained model that is ready for use."""
  config: Config
  tokenizer: Tokenizer
  model: LanguageModel
  state: checkpoint.State
  taken: str  # as of `Weights`


def load_model(workdir: Folder, weights: str = 'best', recurrence: str = 'xla') -> TrainedModel:
  """The model in `workdir`.

  Args:
    workdir, weights: as in `load_weights`, and so are the errors.
    recurrence: of --recurrence; by default the model can be used in any function.
  """
  config, tokenizer, arrays, state, taken = load_weights(workdir, weights)
  model = LanguageModel(config.model, tokenizer.vocab_size, backend=choice.choose(recurrence, config.model))
  variables.restore('model', model.variables, arrays)
  return TrainedModel(config, tokenizer, model, state, taken)


def load_weights(workdir: Folder, weights: str = 'best', flag: str = 'workdir') -> Weights:
  """Reads the weights of the model in `workdir`.

  Args:
    workdir: the folder of a run.
    weights: 'best', those with the lowest validation loss, or 'last'.
    flag: the flag that named the folder, for error messages.

  Raises:
    UserError: there is no model, no checkpoint or one of another format, or the tokenizer is not the one that the
      checkpoint was trained with.
    RunError: a file cannot be read, or none of the checkpoints is whole.
  """
  config = layout.read_config(workdir, flag)
  arrays, state, taken = _read_checkpoint(workdir, weights, flag)
  checkpoint.check_state(workdir, state, STATE)
  found = sum(array.size for name, array in arrays.items() if name.startswith('model/'))
  if config.model.least_weights > found:  # before room is made for them
    raise UserError(f'{layout.config_path(workdir)}: asks for a model of {config.model.least_weights:,} weights or '
                    f'more, but the checkpoint of step {state["step"]} has {found:,}; expected the files that belong '
                    'together')
  tokenizer = load_tokenizer(workdir)
  if state['tokenizer'] != tokenizer.fingerprint:
    raise UserError(f'--{flag}={workdir}: its tokenizer is not the one that the checkpoint of step '
                    f'{state["step"]} was trained with; expected the tokenizer files that charlm-train wrote')
  return Weights(config, tokenizer, arrays, state, taken)


def _read_checkpoint(workdir: Folder, weights: str, flag: str,
                     ) -> tuple[variables.Arrays, checkpoint.State, str]:
  """-> arrays, state, and which they are: 'best' or 'last'."""
  if weights == 'best' and checkpoint.has_best(workdir):
    try:
      return *checkpoint.read(checkpoint.best_path(workdir)), 'best'
    except checkpoint.Damaged as error:
      print(f'warning: {error}; taking the last weights', file=sys.stderr)
  found = checkpoint.newest(workdir)
  if found is None:
    raise UserError(f'--{flag}={workdir}: has no checkpoint yet; expected one that charlm-train saved')
  return *found, 'last'
