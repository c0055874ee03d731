"""What all tokenizers share: the table of pieces, decoding, saving, and reading UTF-8 from blocks.

A tokenizer is a list of pieces: piece i is the bytes of token i. Decoding joins pieces, in Python and in a graph
alike. Encoding is where tokenizers differ. TensorFlow and the libraries of a tokenizer are imported by the methods
that need them, so that token files are made without TensorFlow.
"""
import abc
import codecs
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_pipeline import atomic
from flags.errors import UserError

if TYPE_CHECKING:
  import tensorflow as tf

REPLACEMENT = '\ufffd'  # stands for bytes that are not UTF-8, and for unknown characters


class InvalidText(UserError):
  """Bytes that are not UTF-8.

  Attributes:
    offset: of the first such byte, counted from the start of the text that was being encoded.
    byte: its value.
  """

  def __init__(self, offset: int, byte: int) -> None:
    super().__init__(f'byte 0x{byte:02x} at offset {offset} is not UTF-8: expected UTF-8 text, or a model trained '
                     'with --tokenizer=byte or --on_invalid=replace')
    self.offset, self.byte = offset, byte


def token_dtype(vocab_size: int) -> np.dtype:
  """The smallest unsigned little-endian dtype that holds ids below `vocab_size`."""
  return np.dtype('<u1' if vocab_size <= 1 << 8 else '<u2' if vocab_size <= 1 << 16 else '<u4')


def decode_blocks(blocks: Iterable[bytes], on_invalid: str = 'error') -> Iterator[str]:
  """Decodes UTF-8 that comes in blocks; the text is the same wherever the blocks are cut.

  An empty block ends a document. It gives an empty str, after all text of the document.

  Args:
    blocks: bytes.
    on_invalid: 'error', or 'replace' to yield U+FFFD in place of bytes that are not UTF-8.

  Raises:
    InvalidText: the bytes are not UTF-8 (on_invalid='error').
  """
  decoder = codecs.getincrementaldecoder('utf-8')('strict' if on_invalid == 'error' else 'replace')
  offset = 0
  for block in itertools.chain(blocks, [None]):
    held = len(decoder.getstate()[0])
    try:
      text = decoder.decode(block or b'', final=not block)
    except UnicodeDecodeError as error:
      raise InvalidText(offset - held + error.start, error.object[error.start]) from None
    offset += len(block or b'')
    if text:
      yield text
    if block == b'':
      yield ''


class Tokenizer(abc.ABC):
  """Text to token ids and back.

  Attributes:
    kind: the value of --tokenizer.
    is_trained: whether its pieces are learned from a text.
    has_vocab_size: whether --vocab_size says how many pieces it learns.
    reads_any_bytes: whether it encodes bytes that are not UTF-8 as they are, so that --on_invalid has no effect.
    unknown_id: the id of all characters that it does not know, or None if it can write any text.
    pieces: list of V bytes objects.
    vocab_size: V.
    trackable: what an exported tf.Module must keep a reference to for `encode_tf`, or None.
  """
  kind: ClassVar[str]
  is_trained: ClassVar[bool] = True
  has_vocab_size: ClassVar[bool] = False
  reads_any_bytes: ClassVar[bool] = False
  unknown_id: ClassVar[int | None] = None

  def __init__(self, pieces: list[bytes]) -> None:
    self.pieces = pieces
    self.vocab_size = len(pieces)

  @classmethod
  @abc.abstractmethod
  def train(cls, blocks: Iterable[bytes], vocab_size: int, on_invalid: str) -> 'Tokenizer':
    """A tokenizer for a text. See `registry.train_tokenizer`."""

  @classmethod
  @abc.abstractmethod
  def load(cls, facts: dict[str, Any], folder: pathlib.Path) -> 'Tokenizer':
    """The tokenizer that `save` wrote into `folder`.

    Args:
      facts: what tokenizer.json holds.
      folder: where the other files are, if there are any.

    Raises:
      OSError, ValueError, KeyError or TypeError: the files are missing or damaged.
    """

  @abc.abstractmethod
  def encode_blocks(self, blocks: Iterable[bytes], on_invalid: str = 'error') -> Iterator[np.ndarray]:
    """Encodes a text that comes in blocks: arrays [n] of `token_dtype`.

    Joined, they are the ids that `encode` gives, wherever the blocks are cut. An empty block ends a document: no
    token crosses it, and it gives an empty array.

    Raises:
      InvalidText: the bytes are not UTF-8, and on_invalid is 'error'.
    """

  @abc.abstractmethod
  def encode_tf(self, text: 'tf.Tensor') -> 'tf.RaggedTensor':
    """[B] string -> [B, None] int32. Bytes that are not UTF-8 are replaced, unless `reads_any_bytes`."""

  @property
  def unknown_ids(self) -> list[int]:
    """The ids that stand for what is not known, also where no text is encoded so."""
    return [] if self.unknown_id is None else [self.unknown_id]

  @property
  def trackable(self) -> Any:
    return None

  @functools.cached_property
  def fingerprint(self) -> str:
    """A digest: two tokenizers have the same one if, and only if, they map text to the same ids."""
    digest = hashlib.sha256(self.kind.encode())
    for data in self._files().values():
      digest.update(data)
    return digest.hexdigest()

  def encode(self, text: str | bytes, on_invalid: str = 'error') -> np.ndarray:
    """A whole text -> ids [N] int32. Raises InvalidText as `encode_blocks` does."""
    data = text.encode('utf-8', 'surrogateescape') if isinstance(text, str) else bytes(text)
    arrays = list(self.encode_blocks([data], on_invalid))
    return np.concatenate(arrays, dtype=np.int32) if arrays else np.zeros(0, np.int32)

  def decode(self, ids: Any) -> bytes:
    """Ids [N] -> text. Raises ValueError if an id is not below V."""
    ids = np.asarray(ids).ravel()
    if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
      raise ValueError(f'ids from {ids.min()} to {ids.max()}: expected 0 to {self.vocab_size - 1}')
    return b''.join(map(self.pieces.__getitem__, ids.tolist()))

  def decode_tf(self, ids: 'tf.Tensor | tf.RaggedTensor') -> 'tf.Tensor':
    """[B, T] int32, dense or ragged -> [B] string."""
    import tensorflow as tf
    return tf.strings.reduce_join(tf.gather(tf.constant(self.pieces), ids), axis=-1)

  def save(self, folder: str | os.PathLike) -> None:
    """Writes tokenizer.json, and the files that go with it, into `folder`. Raises OSError."""
    folder = pathlib.Path(folder)
    atomic.make_folder(folder)
    files = self._files()
    files['tokenizer.json'] = self._json(fingerprint=self.fingerprint)
    for name, data in reversed(files.items()):  # tokenizer.json last: it says that the others are there
      atomic.write(folder / name, data)

  def _files(self) -> dict[str, bytes]:
    """{name: content} of what `save` writes, tokenizer.json first, and that without the fingerprint."""
    return {'tokenizer.json': self._json()}

  def _json(self, **more: str) -> bytes:
    """tokenizer.json. more: {name: text} that it holds beside what makes the tokenizer."""
    return (json.dumps({'kind': self.kind, **self._facts(), **more}) + '\n').encode()

  def _facts(self) -> dict[str, Any]:
    """What tokenizer.json holds beside the kind."""
    return {}
