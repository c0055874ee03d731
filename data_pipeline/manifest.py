"""Prepared tokens of a large corpus, which charlm-prepare writes and --corpus=tokens:DIR reads.

  DIR/
    tokens.json              the manifest: what was prepared and how, and the shards of each split
    tokenizer.json, ...      the tokenizer
    train-00000.tokens, ...  the shards; the ids of a split are those of its shards, one after the other
"""
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipeline import remote
from data_pipeline.corpus.account import Account
from data_pipeline.shard_reader import ShardReader
from data_pipeline.shards import RECORD_TOKENS, Layout, Shard
from data_pipeline.token_files import TokenFile
from flags.errors import UserError

FORMAT_VERSION = 1
MANIFEST = 'tokens.json'
OF_PLACE = 'path', 'folder', 'content'  # of a split, that the manifest does not repeat


@dataclasses.dataclass(frozen=True)
class ShardedTokens(TokenFile):
  """The tokens of a split, in shards. There is no file at `path`."""
  folder: str = ''
  shards: tuple[Shard, ...] = ()
  documents: bool = False  # whether the records have bits of starts

  @property
  def layout(self) -> Layout:
    return Layout(self.dtype, self.documents)

  @functools.cached_property
  def reader(self) -> ShardReader:
    """Reads the tokens, for all streams of this split."""
    return ShardReader(self.folder, self.shards, self.layout)

  def share(self) -> None:
    raise UserError(f'--corpus=tokens:{self.folder}: what charlm-prepare wrote is read where charlm runs, and '
                    '--tpu names another one, which reads for itself; expected a corpus of text, or --tpu=local')

  def read(self) -> np.ndarray:
    """The ids [N], in memory."""
    return self.reader.tokens(np.arange(self.num_tokens)[None])[0]


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What charlm-prepare has made."""
  made_with: dict[str, Any]  # the flags of the text and its tokens
  tokenizer: str  # its fingerprint
  vocab_size: int
  content: str  # a digest of the text of all splits
  splits: dict[str, ShardedTokens]

  def account(self) -> str:
    """'12 shards, 3.1 MB of text, 2,345 tokens'"""
    shards = Account(sum(len(split.shards) for split in self.splits.values()), 'shard')
    tokens = sum(split.num_tokens for split in self.splits.values())
    return f'{shards.line(sum(split.num_bytes for split in self.splits.values()))}, {tokens:,} tokens'

  def to_json(self) -> bytes:
    splits = {name: {key: value for key, value in dataclasses.asdict(split).items() if key not in OF_PLACE}
              for name, split in self.splits.items()}
    facts = {**dataclasses.asdict(self), 'format_version': FORMAT_VERSION, 'record_tokens': RECORD_TOKENS,
             'splits': splits}
    return (json.dumps({**facts, 'digest': _digest(facts)}, indent=1) + '\n').encode()

  @classmethod
  def from_json(cls, folder: str, text: bytes) -> 'Manifest':
    """What `to_json` has written. folder: where the shards are. Raises UserError where it is not that."""
    try:
      facts = json.loads(text)
      digest, version = facts.pop('digest'), facts.pop('format_version')
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      raise UserError(f'is not what charlm-prepare wrote ({type(error).__name__})') from error
    if version != FORMAT_VERSION or facts.get('record_tokens') != RECORD_TOKENS:
      raise UserError(f'has the format {version!r}; expected {FORMAT_VERSION}. Prepare the corpus again')
    if digest != _digest({**facts, 'format_version': version}):
      raise UserError('is damaged: it is not what charlm-prepare wrote. Copy it again, or prepare the corpus again')
    del facts['record_tokens']
    splits = {name: _split(folder, name, values, facts['content']) for name, values in facts.pop('splits').items()}
    return cls(**facts, splits=splits)


def _split(folder: str, name: str, values: Mapping[str, Any], content: str) -> ShardedTokens:
  shards = tuple(Shard(**shard) for shard in values['shards'])
  return ShardedTokens(**{**values, 'shards': shards}, path=remote.join(folder, name), folder=folder, content=content)


def _digest(facts: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: str) -> Manifest:
  """The manifest in a folder, whose shards are there and as long as they should be.

  Args:
    folder: on this machine, or an address such as gs://bucket/tokens, where the lengths show when they are read.

  Raises:
    UserError: there is none, or it is damaged, or a shard is missing or of another length.
  """
  named = f'--corpus=tokens:{folder}'
  try:
    text = remote.read(remote.join(folder, MANIFEST))
  except FileNotFoundError as error:
    raise UserError(f'{named}: expected a folder that charlm-prepare has made; it has no {MANIFEST}') from error
  except OSError as error:
    raise UserError(f'{named}: {MANIFEST} cannot be read ({remote.reason(error)})') from error
  try:
    manifest = Manifest.from_json(folder, text)
  except UserError as error:
    raise UserError(f'{named}: {MANIFEST} {error}') from error
  for split in manifest.splits.values() if not remote.is_address(folder) else ():
    for shard in split.shards:
      _check_size(named, folder, shard, split.layout.shard_size(shard.num_tokens))
  return manifest


def _check_size(named: str, folder: str, shard: Shard, expected: int) -> None:
  try:
    found = remote.size(remote.join(folder, shard.name))
  except OSError as error:
    raise UserError(f'{named}: {shard.name} cannot be read ({remote.reason(error)}); expected all shards that '
                    f'{MANIFEST} names. Copy it again, or prepare the corpus again') from error
  if found != expected:
    raise UserError(f'{named}: {shard.name} is damaged: it has {found:,} bytes; expected {expected:,}. Copy it again, '
                    'or prepare the corpus again')
