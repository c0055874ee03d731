"""Flags of charlm-evaluate."""
import dataclasses

from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Checked):
  """What to evaluate."""
  workdir: str = field('', 'Folder of the trained model.', short='Folder of the trained model.')
  corpus: str = field('', 'Other text to evaluate on, as for train --corpus; the text trained on when empty.',
      short='Other text; the one trained on when left out.')
  split: str = field('', 'Part of the corpus: valid (the default for the text trained on), test, train, or all (the '
                     'default for other text).', choices=['', 'train', 'valid', 'test', 'all'],
      short='valid, test, train or all.')
  batch_size: int = field(0, 'Rows; changes the speed, not the result (but what luck does to --mc_dropout). 0 '
                          'chooses by the length of the text. With '
                          '--dynamic 0 is 1 row; more are faster, but then early text is predicted with what was '
                          'learned from later rows, and the figure is no longer that of one stream.', minimum=0,
      short='Rows: speed only; 0 chooses.')
  chunk_length: int = field(64, 'Tokens in a step; changes the speed, not the result (but for masks of --mc_dropout '
                              'that hold for a chunk).', minimum=1, only_with={'dynamic': (False,)})
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'best (by validation loss) or last.', choices=['best', 'last'],
      short='best (by validation loss) or last.')
  dynamic: bool = field(False, 'Learn from each segment of the text once it is scored (dynamic evaluation), which '
                        'suits text that repeats itself or differs from the text trained on. Needs the text trained '
                        'on, for the sizes of its gradients, and many times the time. The saved weights stay as they '
                        'are.', short='Learn from each segment once it is scored.')
  dynamic_learning_rate: float = field(0.0, 'How far a segment moves the weights; 0 chooses by how many there are, and '
                                       'the report says what (0.00003 for two million). Raise it for text unlike the '
                                       'text trained on; lower it where the figure is worse than without --dynamic.',
                                       minimum=0.0, only_with={'dynamic': ()})
  dynamic_decay: float = field(0.02, 'How fast the weights go back to the trained ones. Raise it where the text '
                               'changes its subject often, lower it for long texts on one.', minimum=0.0, maximum=1.0,
      only_with={'dynamic': ()})
  dynamic_length: int = field(20, 'Tokens in a segment. Longer ones are faster, shorter ones learn sooner from what '
                              'was just read.', minimum=1, only_with={'dynamic': ()})
  dynamic_statistics: int = field(500, 'Steps over the text trained on that measure its gradients, each of '
                                  '--dynamic_length tokens of 32 rows. Raise it for large vocabularies, many of whose '
                                  'tokens are rare.', minimum=1, only_with={'dynamic': ()})
  mc_dropout: int = field(0, 'Passes with dropout on whose probabilities are averaged (Monte Carlo dropout), for a '
                          'model that was trained with dropout or its kin: often a little better than one pass '
                          'without, for so many times the work. 0 is one pass without.', minimum=0,
      short='Passes with dropout on, averaged.')
  free_running: int = field(0, 'Adds the loss of each of so many tokens that follow on observed text, where the model '
                            'has read its own samples in place of those between: how fast it goes astray when it '
                            'writes. A mean over starts all along the text, that many tokens apart; 0 adds nothing.',
                            minimum=0, short='Add the loss of so many self-fed tokens.')
  seed: int = field(0, 'What the draws of --mc_dropout and --free_running follow from. Change it to see how much of a '
                    'difference is luck.', minimum=0, maximum=2**31 - 1)

  def check(self) -> None:
    if self.dynamic and self.mc_dropout:
      raise UserError(f'--dynamic with --mc_dropout={self.mc_dropout}: expected one of the two')
    if self.free_running == 1:
      raise UserError('--free_running=1: expected 0, or at least 2, as the first token is that of the usual loss')
    for name in ('dynamic', 'mc_dropout'):
      if self.free_running and getattr(self, name):
        raise UserError(f'--free_running={self.free_running} with --{name}={getattr(self, name)}: expected one of the '
                        'two')
    if not self.mc_dropout and not self.free_running:
      self.refuse('seed', beside='--mc_dropout=0 and --free_running=0')
