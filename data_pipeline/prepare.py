"""A corpus -> files of token ids, kept between runs.

  --cache_dir/
    tokenizers/KEY/  tokenizer.json (tokenizer.model)          KEY: the text, the kind, the size
    tokens/KEY/      tokens.json, train.tokens, valid.tokens   KEY: the text, the tokenizer
                     train.starts, valid.starts                where documents matter (--document_reset)

Token files hold nothing but ids, in the smallest unsigned little-endian type, so that NumPy and TensorFlow can map
them into memory. A folder of them appears by rename, whole or not at all. Where documents matter, no token reaches
over the end of one, and a file of starts holds the places (int64, rising) of the tokens that are read from the initial
state: the first, and the last of each document but the last one. A document ends in a newline, or in the separator, so
the first token of the next is predicted from the initial state and the end of that, as when a text is written from
nothing; and the end itself is predicted from its document. Every target counts once.
"""
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterable

import numpy as np

from data_pipeline import corpus, tokenizers
from flags.errors import UserError

FORMAT = 2  # part of every key: raise it when the files change
LARGE = 50_000_000  # bytes of text from which on progress is shown


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """The token ids of a split, and the counts of its text.

  Bits per byte leave out the first token, which nothing predicts: hence its share of the counts.
  """
  path: str
  dtype: str  # NumPy's name
  num_tokens: int
  num_bytes: int
  num_characters: int
  first_token_bytes: int
  first_token_characters: int
  num_unknown: int  # tokens that stand for characters that the tokenizer does not know
  first_unknown: str = ''  # the first of those characters; '' where there is none
  content: str = ''  # a digest of the text of all splits, whatever its tokens and however they are kept
  num_starts: int = 0  # places in the file of starts; 0 where there is none

  @property
  def starts_path(self):
    return str(pathlib.Path(self.path).with_suffix('.starts'))

  def read(self):
    """[N] ids, mapped into memory and read-only."""
    return np.memmap(self.path, np.dtype(self.dtype).newbyteorder('<'), 'r', shape=(self.num_tokens,))


def prepare(config, tokenizer=None, *, progress=True):
  """The token files of a corpus, made now or found in the cache.

  Args:
    config: DataConfig.
    tokenizer: one to use; trained on the train split when None, as `config` says.
    progress: show a bar on standard error while reading a large corpus.

  Returns:
    tokenizer, {'train': TokenFile, 'valid': TokenFile, 'test': TokenFile} without empty splits.

  Raises UserError where the corpus, the tokenizer or the cache will not do.
  """
  splits = corpus.open_corpus(
      config.corpus, data_dir=config.data_dir, text_feature=config.text_feature,
      valid_fraction=config.valid_fraction, test_fraction=config.test_fraction)
  starts = {split: text.document_starts(config.separator) if config.document_reset else None
            for split, text in splits.items()}
  content = corpus.fingerprint(splits, starts if config.document_reset else None)
  root = cache_root(config.cache_dir)
  try:
    if tokenizer is None:
      tokenizer = _find_or_train(root, content, splits['train'], config, progress)
    invalid = '' if tokenizer.kind == 'byte' else config.on_invalid
    entry = root / 'tokens' / _key(content, tokenizer.fingerprint, invalid)
    files = _read_entry(entry, splits)
    files = files or _make_entry(entry, splits, starts, content, tokenizer, config, progress)
  except OSError as error:
    raise UserError(f'--cache_dir={config.cache_dir}: expected a folder to keep tokens in, but {root} cannot be '
                    f'used ({error.strerror or error})') from error
  return tokenizer, files


def cache_root(cache_dir=''):
  """--cache_dir -> Path, $XDG_CACHE_HOME/charlm or ~/.cache/charlm when it is empty."""
  default = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'charlm'
  return pathlib.Path(cache_dir or default).expanduser().absolute()


def count_characters(data):
  """bytes -> how many UTF-8 characters start in them: those that are not continuation bytes, 0x80 to 0xBF."""
  return int(np.count_nonzero(np.frombuffer(data, np.int8) >= -64))


def _key(*facts):
  return hashlib.sha256(json.dumps([FORMAT, *facts]).encode()).hexdigest()[:32]


def _find_or_train(root, content, text, config, progress):
  """The tokenizer that `config` asks for, for the training text `text`."""
  def train():
    with _Reading(config, 'train', text, 'learning tokens of', progress) as blocks:
      return tokenizers.train_tokenizer(config.tokenizer, blocks, config.vocab_size, config.on_invalid)

  if config.tokenizer == 'byte':
    return train()
  size = config.vocab_size if config.tokenizer == 'sentencepiece' else 0
  folder = root / 'tokenizers' / _key(content, config.tokenizer, size, config.on_invalid)
  try:
    return tokenizers.load_tokenizer(folder)
  except UserError:  # none there, or a damaged one
    tokenizer = train()
    tokenizer.save(folder)
    return tokenizer


def _read_entry(entry, splits):
  """The token files in the folder `entry`, or None where they are not all there and whole."""
  try:
    facts = json.loads((entry / 'tokens.json').read_text())
    files = {split: TokenFile(path=str(entry / f'{split}.tokens'), **facts[split]) for split in splits}
    whole = all(os.path.getsize(file.path) == file.num_tokens * np.dtype(file.dtype).itemsize
                and (not file.num_starts or os.path.getsize(file.starts_path) == file.num_starts * 8)
                for file in files.values())
  except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
    return None
  return files if whole else None


def _make_entry(entry, splits, starts, content, tokenizer, config, progress):
  """Writes the folder `entry`. Two processes may do so at once: the first to finish wins."""
  entry.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix='.making-', dir=entry.parent))
  try:
    facts = {split: {**_write_tokens(temporary / f'{split}.tokens', split, text, starts[split], tokenizer, config,
                                     progress), 'content': content} for split, text in splits.items()}
    (temporary / 'tokens.json').write_text(json.dumps(facts, indent=2) + '\n')
    temporary.chmod(0o755)
    try:
      temporary.rename(entry)
    except OSError:
      if _read_entry(entry, splits) is None:  # a damaged one is in the way
        shutil.rmtree(entry)
        temporary.rename(entry)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return _read_entry(entry, splits)


def _write_tokens(path, split, text, starts, tokenizer, config, progress):
  """Writes the ids of `text`, and where its state starts afresh where `starts` says where documents do.

  Returns the fields of its TokenFile but for `path` and `content`.
  """
  dtype = tokenizers.token_dtype(tokenizer.vocab_size)
  num_tokens = num_unknown = 0
  first_unknown, afresh = None, [0]
  with open(path, 'wb') as file, _Reading(config, split, text, 'tokenizing', progress) as blocks:
    for ids in tokenizer.encode_blocks(blocks if starts is None else cut(blocks, starts), config.on_invalid):
      if not ids.size:  # the end of a document
        afresh.append(num_tokens - 1)
        continue
      if not num_tokens:
        first = _first_token(tokenizer.pieces[ids[0]], blocks.head)
      file.write(ids.astype(dtype, copy=False).data)
      unknown = ids.size - np.count_nonzero(ids) if tokenizer.kind == 'char' else 0
      if unknown and not num_unknown:
        first_unknown = num_tokens + int(np.argmin(ids))
      num_unknown += unknown
      num_tokens += ids.size
  afresh = np.unique(np.array(afresh, '<i8'))
  if starts is not None:
    afresh.tofile(path.with_suffix('.starts'))
  return dict(dtype=dtype.name, num_tokens=num_tokens, num_bytes=blocks.num_bytes,
              num_characters=blocks.num_characters, first_token_bytes=len(first),
              first_token_characters=count_characters(first), num_unknown=int(num_unknown),
              num_starts=0 if starts is None else afresh.size,
              first_unknown=_character(text, first_unknown, config.on_invalid) if num_unknown else '')


def cut(blocks, starts):
  """Blocks of bytes -> the same blocks, cut at the rising offsets `starts`, with an empty block at each of them."""
  starts, place = iter([*starts.tolist(), math.inf]), 0
  start = next(starts)
  for block in blocks:
    used = 0
    while start < place + len(block):
      if start > place + used:
        yield block[used:start - place]
      yield b''
      used, start = start - place, next(starts)
    if used < len(block):
      yield block[used:]
    place += len(block)


def _character(text, i, on_invalid):
  """The character at place `i` of a text that a char tokenizer has read."""
  for part in tokenizers.decode_blocks(text.blocks(), on_invalid):
    if i < len(part):
      return part[i]
    i -= len(part)
  raise AssertionError(i)


def _first_token(piece, head):
  """The bytes of the text that its first token stands for. `head`: how the text starts."""
  if head.startswith(piece):
    return piece
  character = next(tokenizers.decode_blocks([head], 'replace'))[0].encode()  # one that the tokenizer does not know
  return character if head.startswith(character) else head[:1]


class _Reading:
  """The blocks of a text while something else reads them: counts, shows progress, says where they are wrong."""

  def __init__(self, config, split, text, doing, progress):
    self._config, self._split, self._text, self._doing = config, split, text, doing
    self._progress = progress and text.num_bytes >= LARGE
    self.num_bytes = self.num_characters = 0
    self.head = b''

  def __enter__(self):
    return self

  def __iter__(self):
    import tqdm
    with tqdm.tqdm(total=self._text.num_bytes, desc=f'{self._doing} {self._split}', unit='B', unit_scale=True,
                   disable=not self._progress) as bar:
      for block in self._text.blocks():
        self.head = self.head or block
        self.num_bytes += len(block)
        self.num_characters += count_characters(block)
        yield block
        bar.update(len(block))

  def __exit__(self, kind, error, trace):
    if isinstance(error, tokenizers.InvalidText):
      name, offset = self._text.locate(error.offset)
      raise UserError(
          f'--corpus={self._config.corpus}: {name}: byte 0x{error.byte:02x} at offset {offset} is not UTF-8; '
          'expected UTF-8 text, or a model trained with --tokenizer=byte or --on_invalid=replace') from error


def warn_of_unknown(corpus_spec: str, files: Iterable[TokenFile]) -> None:
  """Says on standard error how many characters of these files the tokenizer does not know, if any.

  Args:
    corpus_spec: of --corpus, to name the text by.
    files: of that corpus.
  """
  files = [*files]
  unknown, tokens = sum(f.num_unknown for f in files), sum(f.num_tokens for f in files)
  if unknown:
    first = next(f.first_unknown for f in files if f.num_unknown)
    print(f'warning: --corpus={corpus_spec}: {unknown:,} of {tokens:,} characters ({unknown / tokens:.2%}) are unknown '
          f'to this model, first {first!r}', file=sys.stderr)
