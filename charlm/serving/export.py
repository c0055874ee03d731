"""Writes a trained model as a SavedModel that TF Serving loads, and that needs nothing of charlm.

    EXPORT_DIR/<integer>/saved_model.pb, variables/     what TF Serving reads
    EXPORT_DIR/<integer>/assets.extra/charlm.json       facts about the model
    EXPORT_DIR/<integer>/assets.extra/tf_serving_warmup_requests
"""
import errno
import json
import os
import pathlib
from typing import Any

import tensorflow as tf

from charlm.network.model import LanguageModel
from charlm.serving import check, warm_up
from charlm.serving.signatures import ServedModel
from data_pipeline import atomic
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import RunError, UserError
from flags.serving import ExportConfig

LIMITS = 'max_new_tokens', 'max_prompt_tokens', 'max_batch_tokens'
SAMPLING = 'temperature', 'top_k', 'top_p', 'seed'


def export(model: LanguageModel, tokenizer: Tokenizer, config: ExportConfig, *,
           facts: dict[str, Any]) -> pathlib.Path:
  """Writes the SavedModel.

  Args:
    model: on a backend that runs in any function.
    tokenizer: the model's.
    config: where to, in which version, and what the signatures do.
    facts: what else charlm.json is to say, {name: JSON value}.

  Returns:
    EXPORT_DIR/<version>. The folder appears by rename, whole or not at all.

  Raises:
    UserError: the version exists, or the folder cannot be made.
    RunError: the model could not be written, or does not answer as it should.
  """
  target = _new_version(config.export_dir, config.version)
  try:
    with atomic.folder(target) as folder:
      _write(model, tokenizer, config, folder, facts)
  except (OSError, tf.errors.OpError) as error:
    if target.exists():  # another export was quicker
      raise _version_exists(target) from None
    raise RunError(f'{target.parent}: the model could not be written ({error})') from error
  return target


def _new_version(export_dir: str | pathlib.Path, version: int) -> pathlib.Path:
  """-> the folder of a version that is not there yet; 0 is one more than the newest. Raises UserError."""
  parent = pathlib.Path(export_dir)
  try:
    os.fsencode(parent.absolute()).decode()
  except UnicodeDecodeError:
    raise UserError(f'--export_dir={export_dir}: expected a folder whose name is UTF-8, for TensorFlow') from None
  try:
    atomic.make_folder(parent)
    versions = _versions(parent)
    version = version or max(versions, default=0) + 1
    if version in versions:
      raise _version_exists(parent / str(version))
    if not os.access(parent, os.W_OK | os.X_OK):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
  except OSError as error:
    raise UserError(f'--export_dir={export_dir}: expected a folder to write to ({error.strerror})') from error
  return parent / str(version)


def _versions(parent: pathlib.Path) -> list[int]:
  return [int(path.name) for path in parent.iterdir() if path.name.isdecimal()]


def _version_exists(target: pathlib.Path) -> UserError:
  newest = max(_versions(target.parent))
  return UserError(f'--version={target.name}: {target.parent} has it already; expected a new version, such as '
                   f'{newest + 1}')


def _write(model: LanguageModel, tokenizer: Tokenizer, config: ExportConfig, folder: pathlib.Path,
           facts: dict[str, Any]) -> None:
  """Writes what the folder of a version holds, and checks it."""
  served = ServedModel(model, tokenizer, config)
  requests = warm_up.requests(served)
  answers = check.answers_of(served, requests)
  tf.saved_model.save(served, os.fsencode(folder).decode(), served.functions)
  extra = folder / 'assets.extra'
  extra.mkdir()
  (extra / 'charlm.json').write_text(json.dumps({**_own_facts(served, tokenizer, config), **facts}, indent=2) + '\n')
  warm_up.write(extra / warm_up.FILE, requests)
  check.check(folder, requests, answers, served.libraries)


def _own_facts(served: ServedModel, tokenizer: Tokenizer, config: ExportConfig) -> dict[str, Any]:
  """What a client may want to know of the signatures."""
  found = {'tokenizer': tokenizer.kind, 'vocab_size': tokenizer.vocab_size, 'state_size': served.state_size,
           'stop': [text.decode() for text in config.stop_texts], **{name: getattr(config, name) for name in LIMITS}}
  if 'serving_default' in served.functions:
    count = min(config.length, config.max_new_tokens)
    found['serving_default'] = {'max_new_tokens': count, **{name: getattr(config, name) for name in SAMPLING}}
  return found
