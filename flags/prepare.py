"""Flags of charlm-prepare."""
import dataclasses

from flags.data import DataConfig
from flags.errors import UserError
from flags.schema import Checked, Texts, field, like
from flags.typed import TOKENS


@dataclasses.dataclass(frozen=True)
class PrepareConfig(Checked):
  """What is prepared, and by whom."""
  corpus: str = like(DataConfig, 'corpus', '')
  tokens_dir: str = field('', 'New folder for the tokens, which charlm-train --corpus=tokens:DIR reads. It appears '
                          'when all is done; until then the work is in a folder .NAME.making beside it. Several '
                          'machines need it where all of them see it.', path=True,
                          short='New folder for the tokens')
  workers: int = field(0, 'Processes that work side by side; 0 is one for each core. With 1 this process does the '
                       'work, without Apache Beam.', minimum=0, maximum=1024, not_with='runner',
                       short='Processes that work side by side; 0 is one for each core')
  runner: str = field('', "Apache Beam's runner, such as FlinkRunner or SparkRunner, for work on several machines. "
                      'When empty, processes on this machine do the work.')
  beam_option: Texts = field((), "An option of Apache Beam's runner, such as flink_master=localhost:8081. The flag "  # noqa: RUF009
                             'may be given several times.', only_with='runner')
  tokenizer: str = like(DataConfig, 'tokenizer')
  vocab_size: int = like(DataConfig, 'vocab_size')
  tokenizer_from: str = field('', 'A workdir, or tokens that were prepared before, whose tokenizer is used: for '
                              'text that a trained model is to be evaluated or trained on.', path=True,
                              short='A workdir whose tokenizer is used')
  on_invalid: str = field('error', DataConfig.__dataclass_fields__['on_invalid'].metadata['help'],
                          choices=['error', 'replace'], only_with='tokenizer=char|sentencepiece or tokenizer_from')
  valid_fraction: float = like(DataConfig, 'valid_fraction', 0.01)
  test_fraction: float = like(DataConfig, 'test_fraction')
  document_reset: bool = field(False, 'Keep where documents start, for charlm-train --document_reset. A file is a '
                               'document, an example of a data set is one, and --document_separator cuts text into '
                               'more. No token crosses the end of a document.',
                               short='Keep where documents start')
  document_separator: str = like(DataConfig, 'document_separator')
  data_dir: str = like(DataConfig, 'data_dir')
  text_feature: str = like(DataConfig, 'text_feature')

  @property
  def separator(self) -> bytes | None:
    """What ends documents inside a text, in bytes; None where documents do not matter."""
    return self.document_separator.encode('utf-8', 'surrogateescape') if self.document_reset else None

  def check(self) -> None:
    if not self.corpus:
      raise UserError('--corpus: expected a text to prepare, such as --corpus=texts/')
    if not self.tokens_dir:
      raise UserError('--tokens_dir: expected a new folder for the tokens, such as --tokens_dir=tokens/mine')
    if self.corpus.startswith(TOKENS):
      raise UserError(f'--corpus={self.corpus}: these tokens are prepared already; expected text')
    if self.valid_fraction + self.test_fraction >= 1:
      raise UserError(f'--valid_fraction={self.valid_fraction} and --test_fraction={self.test_fraction}: expected '
                      'a sum below 1, so that text to train on is left')
    for name in ('tokenizer', 'vocab_size') if self.tokenizer_from else ():
      if getattr(self, name) != getattr(PrepareConfig, name):
        raise UserError(f'--{name}={getattr(self, name)} with --tokenizer_from={self.tokenizer_from}: expected one of '
                        'the two')
