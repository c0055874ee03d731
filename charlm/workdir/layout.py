"""What is in a workdir, opened: configuration, tokenizer and weights."""
import contextlib
import fcntl
import os
import pathlib
import sys
from typing import Any, NamedTuple

from charlm.workdir import checkpoint
from flags.config import Config, read_config
from flags.errors import RunError, UserError


class Saved(NamedTuple):
  """What a model is made of."""
  config: Config
  tokenizer: Any
  weights: dict  # the arrays of the checkpoint
  state: dict  # of the checkpoint: step, best_nats, ...


class Opened(NamedTuple):
  """A trained model."""
  config: Config
  tokenizer: Any
  model: Any
  state: dict


def begun(workdir):
  """Whether a run has saved weights in this folder."""
  return bool(checkpoint.saved(workdir)) or checkpoint.best_path(workdir).exists()


def config_path(workdir):
  return pathlib.Path(workdir, 'config.json')


@contextlib.contextmanager
def locked(workdir):
  """Makes the folder and keeps other runs out of it; the lock goes with the process."""
  try:
    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
    folder = os.open(workdir, os.O_RDONLY)
  except OSError as error:
    raise _unwritable(workdir, error) from error
  try:
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(folder)
    raise UserError(f'--workdir={workdir}: another charlm-train is at work there; expected one of its own') from None
  try:
    yield
  finally:
    os.close(folder)


def set_best_aside(workdir):
  """Renames the best weights of a run that was killed before its first checkpoint, as it begins anew; says so."""
  path = checkpoint.best_path(workdir)
  if path.exists() and not checkpoint.saved(workdir):
    aside = path.with_name(f'best-of-step-{checkpoint.read(path)[1]["step"]}.npz')
    try:
      os.replace(path, aside)
    except OSError as error:
      raise _unwritable(workdir, error) from error
    print(f'notice: --workdir={workdir}: was stopped before its first checkpoint (--save_every), and begins anew; its '
          f'best weights until then are now {aside}', file=sys.stderr)


def save_config(workdir, config, tokenizer):
  """Writes tokenizer and configuration of a new run into the workdir; the configuration comes last and whole."""
  if begun(workdir):
    raise UserError(f'--workdir={workdir}: another charlm-train has trained there meanwhile; expected one of its own')
  try:
    tokenizer.save(workdir)
    _write_config(workdir, config)
  except OSError as error:
    raise _unwritable(workdir, error) from error


def save_places(workdir, config):
  """Writes where the text is now into the configuration of a run that goes on."""
  if config != read_config(workdir):
    try:
      _write_config(workdir, config)
    except OSError as error:
      raise _unwritable(workdir, error) from error


def _write_config(workdir, config):
  path = config_path(workdir)
  temporary = path.with_name('.config.json.tmp')
  temporary.write_text(config.to_json())
  os.replace(temporary, path)


def _unwritable(workdir, error):
  return UserError(f'--workdir={workdir}: cannot be written ({error.strerror})')


def identity(tokenizer, files):
  """What a checkpoint belongs to: {name: value}. `files` is {split: TokenFile}."""
  return {'vocab_size': tokenizer.vocab_size, 'tokenizer': tokenizer.fingerprint, 'text': files['train'].content}


def summary(workdir, state, average='none'):
  """Where everything is, and what to do next. average: of --average."""
  folder = pathlib.Path(workdir)
  samples = [f'  {folder / "samples"}/   what the model wrote while it learned'] * (folder / 'samples').exists()
  best = ('' if state['best_nats'] is None else
          f' Best validation loss {state["best_nats"]:.4f} nats per token, at step {state["best_step"]}.')
  return '\n'.join([
      f'Trained for {state["step"]} steps: {state["finished"]}.{best}',
      f'  {folder / "checkpoints"}/   {_used_weights(state, average)}, and the last two checkpoints',
      f'  {folder / "metrics.jsonl"}   a line per report; drawn in {folder / "plot.png"}',
      *samples,
      f'  {folder / "tensorboard"}/   events: tensorboard --logdir={folder}',
      f'Next: charlm-sample --workdir={folder}, charlm-evaluate --workdir={folder}, '
      f'charlm-export --workdir={folder} --export_dir=DIR'])


def _used_weights(state, average):
  """Which weights the other commands use, in words."""
  kind, step = ('last', state['step']) if state['best_nats'] is None else ('best', state['best_step'])
  since = state['average_from']
  averaged = {'none': '', 'ema': ', averaged',
              'validation': '' if since is None or since >= step else f', averaged since step {since}'}
  return f'the {kind} weights (of step {step}{averaged[average]}), which the other commands use'


def load_tokenizer(workdir):
  from data_pipeline.tokenizers import registry  # so that flags are checked before TensorFlow is imported
  return registry.load_tokenizer(workdir)


def open_model(workdir, weights='best'):
  """The model in `workdir`, with its best weights or its last. Raises UserError as `open_weights` does."""
  config, tokenizer, arrays, state = open_weights(workdir, weights)
  from charlm.network.model import LanguageModel
  model = LanguageModel(config.model, tokenizer.vocab_size)
  checkpoint.restore('model', model.variables, arrays)
  return Opened(config, tokenizer, model, state)


def open_weights(workdir, weights='best', flag='workdir'):
  """What the model in `workdir` is made of, with its best weights or its last. `flag` names the folder in messages.

  Raises UserError where there is no model, no checkpoint, or the tokenizer is not that of the checkpoint.
  """
  config = read_config(workdir, flag)
  arrays, state = _read_weights(workdir, weights, flag)
  tokenizer = load_tokenizer(workdir)
  if state['tokenizer'] != tokenizer.fingerprint:
    raise UserError(f'--{flag}={workdir}: its tokenizer is not the one that the checkpoint of step '
                    f'{state["step"]} was trained with; expected the tokenizer files that charlm-train wrote')
  return Saved(config, tokenizer, arrays, state)


def _read_weights(workdir, weights, flag):
  best = checkpoint.best_path(workdir)
  if weights == 'best' and best.exists():
    try:
      return checkpoint.read(best)
    except RunError as error:
      print(f'warning: {error}; taking the last weights', file=sys.stderr)
  found = checkpoint.newest(workdir)
  if found is None:
    raise UserError(f'--{flag}={workdir}: has no checkpoint yet; expected one that charlm-train saved')
  return found


def warn_of_unknown(corpus, files):
  """Says on standard error how many characters of the TokenFiles the tokenizer does not know, if any."""
  unknown, tokens = sum(f.num_unknown for f in files), sum(f.num_tokens for f in files)
  if unknown:
    first = next(f.first_unknown for f in files if f.num_unknown)
    print(f'warning: --corpus={corpus}: {unknown:,} of {tokens:,} characters ({unknown / tokens:.2%}) are unknown to '
          f'this model, first {first!r}', file=sys.stderr)
