"""Flags of charlm-evaluate."""
import dataclasses

from flags.data import MOST_TOKENS
from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Checked):
  """What to evaluate."""
  workdir: str = field('', 'Folder of the trained model.', path=True, short='Folder of the trained model')
  corpus: str = field('', 'Another text to evaluate on, named as for charlm-train --corpus; the text trained on when '
                      'empty.', path=True, short='Another text to evaluate on; the text trained on when empty')
  split: str = field('', 'Part of the text: valid (the default for the text trained on), test, train, or all (the '
                     'default for another text).', choices=['', 'train', 'valid', 'test', 'all'],
                     short='Part of the text: valid, test, train or all')
  cache_dir: str = field('', 'Where tokens are kept between runs; where the run has them when empty. Where that cannot '
                         'be used, a temporary folder does, and the text is read anew each time.', path=True)
  data_dir: str = field('', 'Where TensorFlow Datasets keeps its data, for a tfds: corpus; where the run has them when '
                        'empty. Set it where they have moved.', path=True)
  text_feature: str = field('', 'The feature of a tfds: corpus that holds the text; as the run has it when empty.')
  batch_size: int = field(0, 'Rows that are evaluated side by side; 0 chooses by the length of the text. They change '
                          'the speed, not the result, which is that of one row (but for the random masks of '
                          '--mc_dropout). With --dynamic, 0 is 1 row; more are faster, but then early text is '
                          'predicted with what was learned from later rows, and the figure is no longer that of one '
                          'stream.', minimum=0, maximum=10**6)
  chunk_length: int = field(64, 'Tokens of each row in a step. It changes the speed, not the result (but for masks of '
                            '--mc_dropout that hold for a whole chunk). --dynamic has its own --dynamic_length.',
                            minimum=1, maximum=MOST_TOKENS)
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'Which weights: best (by validation loss) or last.', choices=['best', 'last'],
                       short='Which weights: best (by validation loss) or last')
  dynamic: bool = field(False, 'Learn from each segment of the text once it is scored (dynamic evaluation), which '
                        'suits text that repeats itself or differs from the text trained on. It takes many times as '
                        'long, and needs the text trained on, to measure the sizes of its gradients. The saved weights '
                        'do not change.', short='Learn from each segment of the text once it is scored')
  dynamic_learning_rate: float = field(0.0, 'How far a segment moves the weights; 0 chooses a rate by the number of '
                                       'weights (0.00003 for two million), and the report has it. Raise it for text '
                                       'unlike the text trained on; lower it where the figure is worse than without '
                                       '--dynamic.', minimum=0.0, only_with='dynamic')
  dynamic_decay: float = field(0.02, 'How fast the weights return to the trained ones. Raise it where the text '
                               'changes its subject often, lower it for long texts on one subject.', minimum=0.0,
                               maximum=1.0, only_with='dynamic')
  dynamic_length: int = field(20, 'Tokens in a segment. Longer segments are faster; shorter ones learn sooner from '
                              'what was just read.', minimum=1, maximum=MOST_TOKENS, only_with='dynamic')
  dynamic_statistics: int = field(500, 'Steps over the text trained on that measure its gradients, each of '
                                  '--dynamic_length tokens of 32 rows. Raise it for large vocabularies, where many '
                                  'tokens are rare.', minimum=1, only_with='dynamic')
  mc_dropout: int = field(0, 'Passes with dropout on whose probabilities are averaged (Monte Carlo dropout), for a '
                          'model that was trained with dropout, zoneout or the like. It is often a little better than '
                          'one pass without dropout, for as many times the work. 0 is one pass without.', minimum=0,
                          maximum=10**6,
                          short='Average this many passes with dropout on; 0 is one pass without')
  free_running: int = field(0, 'Adds the losses of this many tokens that follow observed text, where the model reads '
                            'its own samples instead of the true tokens between: how fast it goes astray when it '
                            'writes. Each is a mean over starting points all along the text, this many tokens '
                            'apart. 0 adds nothing.', minimum=0, maximum=MOST_TOKENS,
                            short='Add the loss of this many tokens on the model\'s own samples')
  seed: int = field(0, 'Random draws of --mc_dropout and --free_running follow from it. Change it to see how much of a '
                    'difference is luck.', minimum=0, maximum=2**31 - 1, only_with='mc_dropout or free_running')

  def check(self) -> None:
    if self.dynamic and self.mc_dropout:
      raise UserError(f'--dynamic with --mc_dropout={self.mc_dropout}: expected one of the two')
    if self.dynamic and self.chunk_length != EvaluateConfig.chunk_length:
      raise UserError(f'--chunk_length={self.chunk_length} has no effect beside --dynamic=True, which has a '
                      f'--dynamic_length: expected it left out, or its default, {EvaluateConfig.chunk_length}')
    if self.free_running == 1:
      raise UserError('--free_running=1: expected 0, or at least 2, as the first token is that of the usual loss')
    for name in ('dynamic', 'mc_dropout'):
      if self.free_running and getattr(self, name):
        raise UserError(f'--free_running={self.free_running} with --{name}={getattr(self, name)}: expected one of the '
                        'two')
