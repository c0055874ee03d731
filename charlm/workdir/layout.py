"""A workdir: where its files are, and its configuration.

    WORKDIR/
      config.json              all that was chosen (flags.config.Config)
      tokenizer.json, ...      written by the tokenizer
      checkpoints/             checkpoint.py
      metrics.jsonl            metrics.py, a line for each report
      samples/, tensorboard/   metrics.py
      plot.png                 plot.py, from the metrics

Files are written by `data_pipeline.atomic`, whole or not at all. Only lines of metrics.jsonl and TensorBoard's events
are appended.
"""
import pathlib

from charlm.workdir import checkpoint, names
from charlm.workdir.names import Folder
from data_pipeline import atomic
from data_pipeline.tokenizers.base import Tokenizer
from flags.config import Config
from flags.errors import UserError


def config_path(workdir: Folder) -> pathlib.Path:
  return pathlib.Path(workdir, 'config.json')


def metrics_path(workdir: Folder) -> pathlib.Path:
  return pathlib.Path(workdir, 'metrics.jsonl')


def plot_path(workdir: Folder) -> pathlib.Path:
  return pathlib.Path(workdir, 'plot.png')


def samples_folder(workdir: Folder) -> pathlib.Path:
  return pathlib.Path(workdir, 'samples')


def tensorboard_folder(workdir: Folder) -> pathlib.Path:
  return pathlib.Path(workdir, 'tensorboard')


def has_checkpoint(workdir: Folder) -> bool:
  """Whether a run has saved weights in this folder. Raises RunError where that cannot be found out."""
  return bool(checkpoint.saved(workdir)) or checkpoint.has_best(workdir)


def read_config(workdir: Folder, flag: str = 'workdir') -> Config:
  """Reads the configuration that the model in `workdir` was trained with.

  Args:
    workdir: the folder.
    flag: the flag that named it, for error messages.

  Raises:
    UserError: there is no configuration, or it is not one.
    RunError: it cannot be read.
  """
  path = config_path(workdir)
  if not workdir:
    raise UserError(f'--{flag}: expected the folder of a trained model, such as --{flag}=runs/first')
  try:
    return Config.from_json(path.read_text(encoding='utf-8'))
  except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
    raise UserError(f'--{flag}={workdir}: expected a folder with a config.json, which charlm-train makes') from None
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  except UnicodeDecodeError as error:
    raise UserError(f'{path}: byte 0x{error.object[error.start]:02x} at offset {error.start} is not UTF-8; expected '
                    'the JSON that charlm-train wrote') from error
  except (OSError, MemoryError) as error:
    raise names.unreadable(path, error) from error


def save_config(workdir: Folder, config: Config, tokenizer: Tokenizer) -> None:
  """Writes tokenizer and configuration of a new run. The configuration comes last: where it is, all is there.

  Raises:
    UserError: a run has saved a checkpoint there since this one looked, or a file cannot be written.
  """
  if has_checkpoint(workdir):
    raise UserError(f'--workdir={workdir}: another charlm-train has trained there meanwhile; expected one of its own')
  try:
    tokenizer.save(workdir)
    _write_config(workdir, config)
  except OSError as error:
    raise _unwritable(workdir, error) from error


def update_config(workdir: Folder, config: Config) -> None:
  """Writes the configuration of a run that resumes, where it has changed: its text may have another place now.

  Raises:
    UserError: the file cannot be written.
  """
  if config != read_config(workdir):
    try:
      _write_config(workdir, config)
    except OSError as error:
      raise _unwritable(workdir, error) from error


def _write_config(workdir: Folder, config: Config) -> None:
  atomic.write(config_path(workdir), config.to_json().encode())


def _unwritable(workdir: Folder, error: OSError) -> UserError:
  return UserError(f'--workdir={workdir}: cannot be written ({error.strerror})')
