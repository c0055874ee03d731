"""Byte, character and SentencePiece tokenizers, each in Python and as graph operations.

A tokenizer is a table of pieces: row i holds the bytes of token i. Decoding joins rows of that table, in
Python and in a graph alike; encoding is where the three differ. TensorFlow, tensorflow_text and
sentencepiece are imported by the methods that need them: token files are made without TensorFlow.

  tokenizer      pieces                                    round trip
  byte           the 256 bytes                             any bytes
  char           the characters of the training text       text of known characters
  sentencepiece  learned (BPE), and the 256 bytes          any UTF-8

In a graph, bytes that are not UTF-8 always become U+FFFD under char and sentencepiece.
"""
import array
import codecs
import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
import re
import tempfile

import numpy as np

from flags.errors import UserError

REPLACEMENT = '\ufffd'  # stands for what cannot be read or is not known
SPACE_MARK = '\u2581'  # SentencePiece writes a space as this character, so the character itself goes in as bytes
LONGEST_WORD = 1 << 16  # characters; longer runs without a space are cut, so that memory stays bounded
KNOWN_WORDS = 200_000  # words whose ids are remembered while encoding, about 40 MB
SAMPLE_BYTES = 10 << 20  # text that SentencePiece learns from
SENTENCE_CHARACTERS = 1000  # SentencePiece skips sentences of more than 4192 bytes


class InvalidText(UserError):
  """Bytes that are not UTF-8. `offset` counts bytes from the start of the text that was being encoded."""

  def __init__(self, offset, byte):
    super().__init__(f'byte 0x{byte:02x} at offset {offset} is not UTF-8: expected UTF-8 text, --tokenizer=byte or '
                     '--on_invalid=replace')
    self.offset, self.byte = offset, byte


def token_dtype(vocab_size):
  """The smallest unsigned little-endian dtype that holds ids below `vocab_size`."""
  return np.dtype('<u1' if vocab_size <= 1 << 8 else '<u2' if vocab_size <= 1 << 16 else '<u4')


def decode_blocks(blocks, on_invalid='error'):
  """Iterable of bytes, cut anywhere -> iterator of str, the same text whatever the cuts are.

  An empty block ends a document, and comes out as an empty str once all of the document is out.

  Raises InvalidText where the bytes are not UTF-8, or yields U+FFFD there (on_invalid='replace').
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


def code_points(text):
  """str -> [N] uint32."""
  return np.frombuffer(text.encode('utf-32-le'), '<u4')


class Tokenizer:
  """What the three have in common: everything but encoding.

  Attributes:
    kind: the value of --tokenizer.
    pieces: list of V bytes objects.
    vocab_size: V.
    trackable: what an exported tf.Module must hold on to for `encode_tf`, or None.
  """
  kind = ''
  trackable = None

  def __init__(self, pieces):
    self.pieces = pieces
    self.vocab_size = len(pieces)

  @functools.cached_property
  def fingerprint(self):
    """Changes if, and only if, the mapping from text to ids does."""
    digest = hashlib.sha256(self.kind.encode())
    for data in self._files().values():
      digest.update(data)
    return digest.hexdigest()

  def encode(self, text, on_invalid='error'):
    """str or bytes -> [N] int32."""
    data = text.encode('utf-8', 'surrogateescape') if isinstance(text, str) else bytes(text)
    arrays = list(self.encode_blocks([data], on_invalid))
    return np.concatenate(arrays, dtype=np.int32) if arrays else np.zeros(0, np.int32)

  def encode_blocks(self, blocks, on_invalid='error'):
    """Iterable of bytes -> iterator of [n] arrays of `token_dtype`: the ids of `encode`, wherever the cuts are.

    An empty block ends a document: no token reaches over it, and it comes out as an empty array.
    """
    raise NotImplementedError

  def encode_tf(self, text):
    """[B] string -> RaggedTensor [B, None] int32."""
    raise NotImplementedError

  def decode(self, ids):
    """[N] ids -> bytes. Raises ValueError at an id outside of the vocabulary."""
    ids = np.asarray(ids).ravel()
    if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
      raise ValueError(f'ids from {ids.min()} to {ids.max()}: expected 0 to {self.vocab_size - 1}')
    return b''.join(map(self.pieces.__getitem__, ids.tolist()))

  def decode_tf(self, ids):
    """[B, T] int32, dense or ragged -> [B] string."""
    import tensorflow as tf
    return tf.strings.reduce_join(tf.gather(tf.constant(self.pieces), ids), axis=-1)

  def save(self, folder):
    """Writes tokenizer.json, and what goes with it, into `folder`; each file whole or not at all."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in reversed(self._files().items()):  # tokenizer.json last: it says that the rest is there
      handle, temporary = tempfile.mkstemp(prefix=f'.{name}.', dir=folder)
      try:
        with open(handle, 'wb') as file:
          file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / name)
      except BaseException:
        os.unlink(temporary)
        raise

  def _files(self):
    """Name -> content of the files that `load_tokenizer` reads, tokenizer.json first."""
    return {'tokenizer.json': (json.dumps({'kind': self.kind, **self._facts()}) + '\n').encode()}

  def _facts(self):
    return {}


class ByteTokenizer(Tokenizer):
  """One token per byte: reads anything."""
  kind = 'byte'

  def __init__(self):
    super().__init__([bytes([b]) for b in range(256)])

  def encode_blocks(self, blocks, on_invalid='error'):
    return (np.frombuffer(block, np.uint8) for block in blocks)

  def encode_tf(self, text):
    import tensorflow as tf
    # One string: decode_raw pads or refuses strings of different lengths.
    values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(text), tf.uint8), tf.int32)
    return tf.RaggedTensor.from_row_lengths(values, tf.strings.length(text))


class CharTokenizer(Tokenizer):
  """One token per Unicode character of the training text. Id 0 is any other character, and decodes to U+FFFD."""
  kind = 'char'

  def __init__(self, characters):
    """`characters`: str, sorted, no character twice."""
    super().__init__([c.encode() for c in REPLACEMENT + characters])
    self.characters = characters
    self._table = np.zeros(0x110000, token_dtype(self.vocab_size))  # code point -> id
    self._table[code_points(characters)] = np.arange(1, self.vocab_size)

  def encode_blocks(self, blocks, on_invalid='error'):
    return (self._table[code_points(text)] for text in decode_blocks(blocks, on_invalid))

  def encode_tf(self, text):
    import tensorflow as tf
    known = tf.constant(code_points(self.characters).astype(np.int32))
    codes = tf.strings.unicode_decode(text, 'UTF-8')
    place = tf.minimum(tf.searchsorted(known, codes.values), self.vocab_size - 2)
    return codes.with_values(tf.where(tf.gather(known, place) == codes.values, place + 1, 0))

  def _facts(self):
    return {'characters': self.characters}


class SentencePieceTokenizer(Tokenizer):
  """Pieces of words, learned from the training text; what they do not cover goes in byte by byte.

  A piece is a run of spaces, then a run of other characters, either of them possibly empty; newlines are byte
  pieces. So words can be encoded apart from each other, and each distinct word once. Only a word of more than
  LONGEST_WORD characters may come out otherwise in a graph, where it is not cut.
  """
  kind = 'sentencepiece'
  _words = re.compile(f'[\n{SPACE_MARK}]| {{1,{LONGEST_WORD}}}[^ \n{SPACE_MARK}]{{0,{LONGEST_WORD}}}|'
                      f'[^ \n{SPACE_MARK}]{{1,{LONGEST_WORD}}}')

  def __init__(self, model):
    """`model`: a serialized SentencePiece model. Raises ValueError where it is none."""
    self._model = model
    self._processor = _sentencepiece().SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
      raise ValueError('not a SentencePiece model') from error
    super().__init__([self._piece(i) for i in range(self._processor.get_piece_size())])
    self._dtype = token_dtype(self.vocab_size)
    self._mark = [self._processor.piece_to_id(f'<0x{b:02X}>') for b in SPACE_MARK.encode()]

  def _piece(self, i):
    piece = self._processor.id_to_piece(i)
    if self._processor.is_byte(i):
      return bytes([int(piece[3:5], 16)])
    return REPLACEMENT.encode() if self._processor.is_unknown(i) else piece.replace(SPACE_MARK, ' ').encode()

  def encode_blocks(self, blocks, on_invalid='error'):
    known, held = {SPACE_MARK: self._as_bytes(self._mark)}, ''
    for text in decode_blocks(blocks, on_invalid):
      words = self._words.findall(held + text)
      held = words.pop() if text else ''  # the last word may go on in the next block
      if words:
        yield self._encode_words(words, known)
      if not text:
        yield np.zeros(0, self._dtype)
    if held:
      yield self._encode_words([held], known)

  def _encode_words(self, words, known):
    """Words -> [n] ids. `known`: word -> the bytes of its ids, filled as words turn up."""
    new = [word for word in set(words) if word not in known]
    known.update(zip(new, map(self._as_bytes, self._processor.encode(new)), strict=True))
    # Joining bytes is 5 times as fast as chaining lists of ids into an array.
    ids = np.frombuffer(b''.join(map(known.__getitem__, words)), self._dtype)
    if len(known) > KNOWN_WORDS:
      mark = known[SPACE_MARK]
      known.clear()
      known[SPACE_MARK] = mark
    return ids

  def _as_bytes(self, ids):
    return array.array(self._dtype.char, ids).tobytes()

  @functools.cached_property
  def trackable(self):
    """The tensorflow_text tokenizer: it owns a resource, which an exported tf.Module must hold on to."""
    try:
      import tensorflow_text
    except ImportError as error:
      raise UserError('--tokenizer=sentencepiece: expected tensorflow-text to be installed, to export it; '
                      "pip install -e '.[text]'") from error
    import tensorflow as tf
    with tf.init_scope():
      return tensorflow_text.SentencepieceTokenizer(self._model, out_type=tf.int32)

  def encode_tf(self, text):
    import tensorflow as tf
    text = tf.strings.unicode_transcode(text, 'UTF-8', 'UTF-8')
    parts = tf.strings.split(text, SPACE_MARK)  # [B, None]
    ids = self.trackable.tokenize(parts.values)
    mark = tf.tile(tf.constant([self._mark]), [ids.nrows(), 1])
    ids = parts.with_values(tf.concat([ids, tf.RaggedTensor.from_tensor(mark)], axis=1))
    return ids.merge_dims(1, 2)[:, :-len(self._mark)]

  def _files(self):
    return {**super()._files(), 'tokenizer.model': self._model}


def _sentencepiece():
  try:
    import sentencepiece
  except ImportError as error:
    raise UserError('--tokenizer=sentencepiece: expected sentencepiece to be installed; '
                    'pip install sentencepiece') from error
  return sentencepiece


def train_tokenizer(kind, blocks, vocab_size=1000, on_invalid='error'):
  """A tokenizer for the text in `blocks`, an iterable of bytes; byte reads none of it.

  Raises UserError where SentencePiece cannot learn `vocab_size` pieces from the text.
  """
  if kind == 'byte':
    return ByteTokenizer()
  texts = decode_blocks(blocks, on_invalid)
  if kind == 'char':
    seen = np.zeros(0x110000, bool)
    for text in texts:
      seen[code_points(text)] = True
    return CharTokenizer(''.join(map(chr, np.flatnonzero(seen).tolist())))
  assert kind == 'sentencepiece', kind
  return SentencePieceTokenizer(_train_sentencepiece(_sample_sentences(texts), vocab_size))


def _sample_sentences(texts):
  """Iterator of str -> list of str: every 2ᵏ-th line, with k the least that keeps it below SAMPLE_BYTES."""
  sample, size, stride, count, held = [], 0, 1, 0, ''
  for text in itertools.chain(texts, ['\n']):
    # Tabs and U+2585 are SentencePiece's own marks in training; it would skip the line.
    *lines, held = re.split(f'[\n\r\t\0{SPACE_MARK}\u2585]+', held + text)
    if len(held) > SENTENCE_CHARACTERS:
      lines, held = [*lines, held], ''
    for line in lines:
      for start in range(0, len(line), SENTENCE_CHARACTERS):
        if count % stride == 0:
          sample.append(line[start:start + SENTENCE_CHARACTERS])
          size += len(sample[-1].encode())
        count += 1
    while size > SAMPLE_BYTES:
      sample, stride = sample[::2], 2 * stride
      size = sum(len(sentence.encode()) for sentence in sample)
  return sample


def _train_sentencepiece(sentences, vocab_size):
  """list of str -> serialized model.

  BPE rather than unigram: on 4.7 MB of code it trains in 2.3 s instead of 75 s, and gives as few tokens.
  Pieces of several spaces: a third fewer tokens on code.
  """
  if not sentences:
    raise UserError('--tokenizer=sentencepiece: expected text to learn pieces from, found only line ends')
  model = io.BytesIO()
  try:
    _sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type='bpe', vocab_size=vocab_size,
        normalization_rule_name='identity', add_dummy_prefix=False, remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, byte_fallback=True, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
        minloglevel=3)
  except RuntimeError as error:
    least = re.search(r'required_chars\. \d+ vs (\d+)', str(error))
    most = re.search(r'value <= (\d+)', str(error))
    wanted = f'at least {least[1]}' if least else f'at most {most[1]}' if most else f'another size ({error})'
    raise UserError(f'--vocab_size={vocab_size}: expected {wanted} for this text') from error
  return model.getvalue()


def load_tokenizer(folder):
  """The tokenizer that `save` wrote into `folder`. Raises UserError where there is none, or a damaged one."""
  path = pathlib.Path(folder) / 'tokenizer.json'
  try:
    facts = json.loads(path.read_text('utf-8'))
    if facts['kind'] == 'byte':
      return ByteTokenizer()
    if facts['kind'] == 'char':
      return CharTokenizer(facts['characters'])
    if facts['kind'] == 'sentencepiece':
      return SentencePieceTokenizer(path.with_suffix('.model').read_bytes())
  except FileNotFoundError as error:
    raise UserError(f'{error.filename}: expected a saved tokenizer, found no such file') from error
  except UserError:
    raise
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f'{path}: expected a saved tokenizer ({error})') from error
  raise UserError(f"{path}: expected a tokenizer of this version, found the kind '{facts['kind']}'")
