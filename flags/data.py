"""Flags of the text, its tokens, and the chunks of it."""
import dataclasses

from flags.errors import UserError
from flags.schema import Checked, field, unescaped


def is_path(corpus: str) -> bool:
  """Whether --corpus names a place on the disk, and not a text by its own name."""
  return corpus not in ('pydoc', 'stdlib') and not corpus.startswith('tfds:')


def parse_lengths(text: str) -> tuple[int, ...]:
  """'50,100,200' -> (50, 100, 200)."""
  try:
    lengths = tuple(int(n) for n in text.split(',')) if text else ()
  except ValueError:
    lengths = (0,)
  if any(n < 1 for n in lengths):
    raise UserError(f'--chunk_curriculum={text}: expected lengths of at least 1 separated by commas, '
                    'such as 50,100,200')
  return lengths


@dataclasses.dataclass(frozen=True)
class DataConfig(Checked):
  """Text, tokens, and chunks that carry state."""
  corpus: str = field('pydoc', 'Text to learn: pydoc (the language reference that Python carries), stdlib (the '
                      'sources of the standard library), a file, a folder, a glob (.gz .bz2 .xz .zst too), or '
                      'tfds:NAME[/CONFIG] for TensorFlow Datasets (to be installed with [tfds]). A folder\'s '
                      'hidden files are left out, and so are the workdirs in it.',
      short='Text: pydoc, stdlib, a file, a folder, a glob, or tfds:NAME.')
  data_dir: str = field('', 'Where TensorFlow Datasets keeps its data; its own default when empty. Set it where '
                        'that disk is too small, or the data lie elsewhere.')
  text_feature: str = field('', 'The feature that holds the text of a tfds: corpus; found by itself when empty. Needed '
                            'where there are several.')
  valid_fraction: float = field(0.1, 'Share of the text, cut from the end (before the test share), that '
                                'measures progress and picks the best weights. 0 trains on all, and keeps the last '
                                'weights.', minimum=0.0, below=1.0,
      short='Share of the text held out to measure progress.')
  test_fraction: float = field(0.0, 'Share of the text, cut from the very end, for a last look by evaluate '
                               '--split=test. Use it where the validation loss has guided many choices.',
                               minimum=0.0, below=1.0)
  tokenizer: str = field('byte', 'byte reads anything; char has one token per Unicode character of the training text, '
                         'which suits scripts beyond ASCII; sentencepiece learns --vocab_size pieces, for much text '
                         '(to export such a model, install charlm with [text]).',
                         choices=['byte', 'char', 'sentencepiece'], short='byte, char or sentencepiece.')
  vocab_size: int = field(1000, 'Pieces that the sentencepiece tokenizer learns. More of them make fewer tokens of '
                            'the same text, each seen less often.',
                          minimum=1, only_with={'tokenizer': ('sentencepiece',)})
  on_invalid: str = field('error', 'What to do with bytes that are not UTF-8 under char and sentencepiece: stop and '
                          'name the place, or replace them with U+FFFD where a few of them do not matter.',
                          choices=['error', 'replace'], only_with={'tokenizer': ('char', 'sentencepiece')})
  cache_dir: str = field('', 'Where tokens are kept between runs; ~/.cache/charlm when empty. Set it where the home '
                         'folder is small or slow: a text takes one to two bytes per token.')
  batch_size: int = field(16, 'Rows: parallel streams of text in one step. More rows, more tokens per second; '
                          'fewer rows, more steps per pass.', minimum=1, short='Parallel streams of text in a step.')
  chunk_length: int = field(100, 'Tokens that one step sees in each row, and that gradients reach back. Longer '
                            'ones learn longer ties, in fewer steps per pass.', minimum=1,
      only_with={'chunk_curriculum': ('',)}, short='Tokens of a step in each row.')
  chunk_overlap: int = field(0, 'Tokens that neighbouring chunks share, each trained on more than once: gradients '
                             'reach further back, for as much more work. For little text and much time; elsewhere '
                             'more passes are worth more. The state still follows the text once.',
                             minimum=0)
  chunk_curriculum: str = field('', 'Chunk lengths to train on in turn, each for an equal share of the run, '
                                'such as 50,100,200; --chunk_length when empty. For ties that lie further apart than '
                                'early steps can learn from.')

  document_reset: bool = field(False, 'Start each document from the initial state, in training and evaluation: each '
                               'file, each example of a data set, and what --document_separator parts. Use it where '
                               'documents have nothing to do with each other, as with molecules or messages.',
      short='Start each document from the initial state.')
  document_separator: str = field('', 'Text that ends a document, such as \\n\\n for an empty line; \\n stands for a '
                                  'line end and \\t for a tab. It stays in the text, so that the model learns to '
                                  'end documents. For --document_reset where one file holds many. One that ends a '
                                  'line suits charlm-sample, whose empty prompt is a line end.',
      only_with={'document_reset': ()})

  @property
  def separator(self) -> bytes:
    """--document_separator in bytes, line ends and tabs put in."""
    return unescaped(self.document_separator).encode('utf-8', 'surrogateescape')

  def check_recurrence(self, recurrence: str) -> None:
    """Raises UserError where --recurrence asks for kernels that know of no documents."""
    if self.document_reset and recurrence == 'native':
      raise UserError('--recurrence=native with --document_reset: expected auto or xla, because the native kernels '
                      'cannot start afresh inside a chunk')

  @property
  def lengths(self) -> tuple[int, ...]:
    """The chunk lengths in the order in which they are trained on."""
    return parse_lengths(self.chunk_curriculum) or (self.chunk_length,)

  def check(self) -> None:
    if self.valid_fraction + self.test_fraction >= 1:
      raise UserError(f'--valid_fraction={self.valid_fraction} and --test_fraction={self.test_fraction}: expected '
                      'a sum below 1, so that text to train on is left')
    if min(self.lengths) <= self.chunk_overlap:
      raise UserError(f'--chunk_overlap={self.chunk_overlap}: expected less than the shortest chunk, '
                      f'{min(self.lengths)} tokens')
    if not self.corpus.startswith('tfds:'):
      self.refuse('data_dir', 'text_feature', beside=f'--corpus={self.corpus}, which is not of TensorFlow Datasets')
