"""Flags of the text, its tokens, and the chunks that it is cut into."""
import dataclasses

from flags.errors import UserError
from flags.schema import Checked, field
from flags.typed import TOKENS

MOST_TOKENS = 10**6  # of a chunk


def is_path(corpus: str) -> bool:
  """Whether --corpus names text on the disk, rather than prepared tokens or a text that charlm knows by name."""
  return corpus not in ('pydoc', 'stdlib') and not corpus.startswith(('tfds:', TOKENS))


def parse_lengths(text: str) -> tuple[int, ...]:
  """'50,100,200' -> (50, 100, 200). Raises UserError."""
  try:
    lengths = tuple(int(n) for n in text.split(',')) if text else ()
  except ValueError:
    lengths = (0,)
  if any(not 1 <= n <= MOST_TOKENS for n in lengths):
    raise UserError(f'--chunk_curriculum={text}: expected lengths from 1 to {MOST_TOKENS:,} separated by commas, '
                    'such as 50,100,200')
  return lengths


@dataclasses.dataclass(frozen=True)
class DataConfig(Checked):
  """Text, tokens, and chunks."""
  corpus: str = field('pydoc', 'Text to learn: pydoc (the language reference that comes with Python), stdlib (the '
                      'sources of its standard library), a file, a folder, a glob (.gz .bz2 .xz .zst too), '
                      'tfds:NAME[/CONFIG] for TensorFlow Datasets (install charlm with [tfds]), or tokens:DIR for '
                      'what charlm-prepare has made, on this machine or at gs://. Hidden files, '
                      'workdirs and what is no text are left out of a folder; the first line says how much that is.',
                      path=True,
                      short='Text to learn: file, folder, glob, pydoc, stdlib, tfds:NAME, tokens:DIR')
  data_dir: str = field('', 'Where TensorFlow Datasets keeps its data; its own default when empty. Set it where '
                        'that disk is too small, or where the data are elsewhere.', path=True,
                        only_with='corpus=tfds:*')
  text_feature: str = field('', 'The feature of a tfds: corpus that holds the text; found automatically when empty. '
                            'Needed where several features hold text.', only_with='corpus=tfds:*')
  valid_fraction: float = field(0.1, 'Share of the text that is held out for validation: it measures progress and '
                                'decides which weights are best. It is cut from the end, before the test share. With '
                                '0 the run trains on everything and keeps the last weights.',
                                minimum=0.0, below=1.0, short='Share of the text held out to measure progress')
  test_fraction: float = field(0.0, 'Share of the text, cut from the very end, that training never looks at; '
                               'charlm-evaluate --split=test does. Use it where the validation loss has guided many '
                               'choices.', minimum=0.0, below=1.0)
  tokenizer: str = field('byte', 'byte reads any text; char has one token for each Unicode character of the training '
                         'text, which suits scripts beyond ASCII; sentencepiece learns --vocab_size pieces of words, '
                         'for large texts (to export such a model, install charlm with [text]).',
                         choices=['byte', 'char', 'sentencepiece'], short='Tokens: byte, char or sentencepiece')
  vocab_size: int = field(1000, 'Pieces that the sentencepiece tokenizer learns. With more pieces the same text has '
                          'fewer tokens, but each of them is seen less often.', minimum=1, maximum=10**6,
                          only_with='tokenizer=sentencepiece')
  on_invalid: str = field('error', 'What to do with bytes that are not UTF-8: stop and say where they are (error), or '
                          'replace them with U+FFFD, where a few of them do not matter (replace).',
                          choices=['error', 'replace'], only_with='tokenizer=char|sentencepiece')
  cache_dir: str = field('', 'Where tokens are kept between runs; ~/.cache/charlm when empty. Set it where the home '
                         'folder is small or slow: each token takes one or two bytes.', path=True)
  batch_size: int = field(16, 'Rows: parallel streams of text that one step reads. More rows give more tokens per '
                          'second; fewer rows give more steps per pass over the text.', minimum=1, maximum=10**6,
                          short='Rows: parallel streams of text in one step')
  chunk_length: int = field(100, 'Tokens of each row that one step reads; gradients reach back as far. Longer chunks '
                            'learn longer dependencies, in fewer steps per pass over the text.', minimum=1,
                            maximum=MOST_TOKENS, not_with='chunk_curriculum', short='Tokens of each row in one step')
  chunk_overlap: int = field(0, 'Tokens that neighbouring chunks share. They are trained on more than once, so that '
                             'gradients reach further back and a pass takes longer. For a small text and plenty of '
                             'time; otherwise more passes over the text help more. The state still follows the text '
                             'once.', minimum=0, maximum=MOST_TOKENS)
  chunk_curriculum: str = field('', 'Chunk lengths to train on one after the other, each for an equal share of the '
                                'run, such as 50,100,200; --chunk_length when empty. For dependencies that are too '
                                'long to learn in the first steps.')
  document_reset: bool = field(False, 'Start each document from the initial state, in training and evaluation. A file '
                               'is a document, an example of a data set is one, and --document_separator cuts text '
                               'into more. Use it where documents are independent of each other, such as molecules or '
                               'messages.', short='Start each document from the initial state')
  document_separator: str = field('', 'Text that ends a document, such as \\n\\n for an empty line, '
                                  'where one file holds many documents. It stays in the text, so that the '
                                  'model learns to end documents. One that ends with a line end suits charlm-sample, '
                                  'where an empty prompt counts as a line end.', escapes=True,
                                  only_with='document_reset')

  @property
  def separator(self) -> bytes:
    """--document_separator in bytes."""
    return self.document_separator.encode('utf-8', 'surrogateescape')

  @property
  def lengths(self) -> tuple[int, ...]:
    """The chunk lengths in the order in which they are trained on."""
    return parse_lengths(self.chunk_curriculum) or (self.chunk_length,)

  def check_recurrence(self, recurrence: str) -> None:
    """Raises UserError where --recurrence asks for the native kernels, which cannot reset the state inside a chunk."""
    if self.document_reset and recurrence == 'native':
      raise UserError('--recurrence=native with --document_reset: expected auto or xla, because the native kernels '
                      'cannot start afresh inside a chunk')

  def check(self) -> None:
    if self.valid_fraction + self.test_fraction >= 1:
      raise UserError(f'--valid_fraction={self.valid_fraction} and --test_fraction={self.test_fraction}: expected '
                      'a sum below 1, so that text to train on is left')
    if min(self.lengths) <= self.chunk_overlap:
      raise UserError(f'--chunk_overlap={self.chunk_overlap}: expected less than the shortest chunk, '
                      f'{min(self.lengths)} tokens')
