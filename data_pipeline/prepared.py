"""--corpus=tokens:DIR: what charlm-prepare has made, opened as a text that needs no more preparing."""
import dataclasses
import os
import pathlib
import tempfile
from typing import Any

from data_pipeline import remote
from data_pipeline.manifest import Manifest, ShardedTokens, read_manifest
from data_pipeline.tokenizers.base import Tokenizer
from data_pipeline.tokenizers.registry import load_tokenizer
from flags import typed
from flags.data import DataConfig
from flags.errors import RunError, UserError

# Flags that decided what the tokens are. Nothing of them can change afterwards.
DECIDED = ('tokenizer', 'vocab_size', 'on_invalid', 'valid_fraction', 'test_fraction')
OF_DOCUMENTS = ('document_reset', 'document_separator')


def is_prepared(corpus: str) -> bool:
  """Whether --corpus names prepared tokens."""
  return corpus.startswith(typed.TOKENS)


def folder_of(corpus: str) -> str:
  return corpus.removeprefix(typed.TOKENS)


def open_prepared(config: DataConfig) -> tuple[Manifest, dict[str, Any]]:
  """Reads the manifest of --corpus=tokens:DIR.

  Args:
    config: the flags. Those that the manifest decides are at their defaults, or as it says.

  Returns:
    The manifest, and the flags that it decides, {name: value}.

  Raises:
    UserError: there are no such tokens, or they were made with other flags.
  """
  manifest = read_manifest(folder_of(config.corpus))
  made, default = manifest.made_with, DataConfig()
  if config.document_reset and not made['document_reset']:
    raise UserError(f'--corpus={config.corpus}: has no starts of documents; expected tokens that charlm-prepare made '
                    'with --document_reset')
  names = DECIDED + OF_DOCUMENTS if config.document_reset else DECIDED
  for name in names:
    value = getattr(config, name)
    if value not in (getattr(default, name), made[name]):
      raise UserError(f'{typed.assigned(name, value)} with --corpus={config.corpus}: its tokens were made with '
                      f'{typed.assigned(name, made[name])}; expected that, or tokens that charlm-prepare made with '
                      'the other value')
  return manifest, {name: made[name] for name in names}


def files_of(manifest: Manifest, documents: bool) -> dict[str, ShardedTokens]:
  """{split: its tokens}. documents: whether they start from the initial state; otherwise a split is one text."""
  return {name: split if documents else dataclasses.replace(split, num_starts=0)
          for name, split in manifest.splits.items() if split.num_tokens}


def tokenizer_of(manifest: Manifest, corpus: str, wanted: Tokenizer | None = None) -> Tokenizer:
  """The tokenizer of prepared tokens.

  Args:
    manifest: theirs.
    corpus: --corpus.
    wanted: the one that a model has, if it has to be that.

  Raises:
    UserError: it is missing or damaged, or another one.
  """
  if wanted and wanted.fingerprint != manifest.tokenizer:
    raise UserError(f'--corpus={corpus}: its tokens are not those of the model: they are of another '
                    f'{manifest.made_with["tokenizer"]} tokenizer; expected tokens that charlm-prepare made with '
                    '--tokenizer_from=WORKDIR')
  if wanted:
    return wanted
  tokenizer = _load(folder_of(corpus), corpus)
  if tokenizer.fingerprint != manifest.tokenizer:
    raise UserError(f'--corpus={corpus}: tokenizer.json is not the tokenizer that its tokens were made with. Copy it '
                    'again, or prepare the corpus again')
  return tokenizer


def _load(folder: str, corpus: str) -> Tokenizer:
  try:
    if not remote.is_address(folder):
      return load_tokenizer(folder)
    with tempfile.TemporaryDirectory(prefix='charlm-') as local:
      for name in remote.names(folder):
        if name.startswith('tokenizer.'):
          pathlib.Path(local, os.path.basename(name)).write_bytes(remote.read(remote.join(folder, name)))
      return load_tokenizer(local)
  except UserError as error:
    raise UserError(f'--corpus={corpus}: {error}') from error
  except OSError as error:
    raise RunError(f'--corpus={corpus}: its tokenizer cannot be read ({remote.reason(error)})') from error
