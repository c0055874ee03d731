"""Flags of charlm-score."""
import dataclasses

from flags import served
from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class ScoreConfig(Checked):
  """What to say of the texts."""
  workdir: str = field('', 'Folder of the trained model.', path=True, short='Folder of the trained model')
  output: str = field('text', 'How it is told: text, a table to read; json, one object for all; or jsonl, an object '
                      'for each line of the texts, one in a line.', choices=['text', 'json', 'jsonl'],
                      short='text, a table; json, one object; or jsonl, one for each line')
  lines: bool = field(False, 'Say it of each line of the texts, too; jsonl always does.',
                      short='Say it of each line, too')
  sort: bool = field(False, 'Say it of each line, the most surprising first: by its bits per character, over all '
                     'texts. All lines are held in memory.', short='The same, the most surprising lines first')
  tokens: bool = field(False, 'Add the bits of each token, to the lines where they are told, else to the texts.',
                       only_with='output=json|jsonl', short='Add the bits of each token, to json or jsonl')
  html: str = field('', 'A file to write a page to, for a browser, that shows the surprise at each character as '
                    'colour, and what the model expected there. 1 MB of text takes up to 30 MB.', path=True,
                    short='Write a page that shows the surprise at each character')
  document_reset: bool = field(False, 'Start each document of a text from the initial state, as --document_reset of '
                               'charlm-train does. Where it is not given, as the model was trained. Each text starts '
                               'from it anyway.')
  document_separator: str = field('', 'Text that ends a document, such as \\n\\n for an empty line. Where it is not '
                                  'given, as the model was trained.', escapes=True)
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'Which weights: best (by validation loss) or last.', choices=['best', 'last'],
                       short='Which weights: best (by validation loss) or last')
  server: str = served.server()
  model: str = served.model()

  @property
  def by_line(self) -> bool:
    """Whether lines are told of."""
    return self.lines or self.sort or self.output == 'jsonl'

  def check(self) -> None:
    if self.server:
      served.check(self, ['output'])
      if self.output == 'jsonl':
        raise UserError(f'--output=jsonl with --server={self.server}: expected text or json, as a server tells of '
                        'whole texts only')
