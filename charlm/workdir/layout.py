"""A workdir: where its files are, its lock, and its configuration.

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
import contextlib
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator

from charlm.workdir import checkpoint
from data_pipeline import atomic
from data_pipeline.tokenizers.base import Tokenizer
from flags.config import Config
from flags.errors import UserError


def config_path(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir, 'config.json')


def metrics_path(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir, 'metrics.jsonl')


def plot_path(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir, 'plot.png')


def samples_folder(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir, 'samples')


def tensorboard_folder(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir, 'tensorboard')


def has_checkpoint(workdir: str | pathlib.Path) -> bool:
  """Whether a run has saved weights in this folder."""
  return bool(checkpoint.saved(workdir)) or checkpoint.best_path(workdir).exists()


@contextlib.contextmanager
def lock(workdir: str | pathlib.Path) -> Iterator[None]:
  """Makes the folder, keeps other runs out of it, and removes unfinished files that a killed one has left.

  The lock ends with the process, however that ends.

  Raises:
    UserError: another run holds the lock, or the folder cannot be made.
  """
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
    for unfinished in [*pathlib.Path(workdir).glob('.*.tmp'), *samples_folder(workdir).glob('.*.tmp')]:
      unfinished.unlink()
    yield
  finally:
    os.close(folder)


def set_best_aside(workdir: str | pathlib.Path) -> None:
  """Renames the best weights of a run that was killed before its first checkpoint, and says so.

  Such a run starts again from nothing, and would write over them.

  Raises:
    UserError: the file cannot be renamed.
  """
  path = checkpoint.best_path(workdir)
  if path.exists() and not checkpoint.saved(workdir):
    aside = path.with_name(f'best-of-step-{checkpoint.read(path)[1]["step"]}.npz')
    try:
      os.replace(path, aside)
    except OSError as error:
      raise _unwritable(workdir, error) from error
    print(f'notice: --workdir={workdir}: was stopped before its first checkpoint (--save_every), and begins anew; its '
          f'best weights until then are now {aside}', file=sys.stderr)


def read_config(workdir: str | pathlib.Path, flag: str = 'workdir') -> Config:
  """Reads the configuration that the model in `workdir` was trained with.

  Args:
    workdir: the folder.
    flag: the flag that named it, for error messages.

  Raises:
    UserError: there is no configuration, or it cannot be read.
  """
  path = config_path(workdir)
  if not workdir:
    raise UserError(f'--{flag}: expected the folder of a trained model, such as --{flag}=runs/first')
  if not path.is_file():
    raise UserError(f'--{flag}={workdir}: expected a folder with a config.json, which charlm-train makes')
  try:
    return Config.from_json(path.read_text(encoding='utf-8'))
  except (UserError, OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path}: {error}') from error


def save_config(workdir: str | pathlib.Path, config: Config, tokenizer: Tokenizer) -> None:
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


def update_config(workdir: str | pathlib.Path, config: Config) -> None:
  """Writes the configuration of a run that resumes, where it has changed: its text may have another place now.

  Raises:
    UserError: the file cannot be written.
  """
  if config != read_config(workdir):
    try:
      _write_config(workdir, config)
    except OSError as error:
      raise _unwritable(workdir, error) from error


def _write_config(workdir: str | pathlib.Path, config: Config) -> None:
  atomic.write(config_path(workdir), config.to_json().encode())


def _unwritable(workdir: str | pathlib.Path, error: OSError) -> UserError:
  return UserError(f'--workdir={workdir}: cannot be written ({error.strerror})')
