"""Flags of training."""
import dataclasses
import math
import statistics
from collections.abc import Sequence

from flags.errors import UserError
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
  """Training."""
  optimizer: str = field('adam', 'A Keras optimizer by name: adam, adamw, nadam, rmsprop, sgd, lion, ... adam suits '
                         'most; beyond the first three each needs a --learning_rate of its own.')
  optimizer_constants: str = field('', 'Constants of --optimizer that shall not be what Keras has, by its names for '
                                   'them: momentum=0.9 for sgd, which is slow without, or beta_1=0.8 for adam.')
  learning_rate: float = field(0.003, 'Highest learning rate. Lower it where the loss jumps up or is not finite; '
                               'raise it where a short run learns too slowly.', above=0.0,
      short='Highest learning rate.')
  warmup_steps: int = field(50, 'Steps in which the learning rate rises from 0. Raise it where the first steps make '
                            'the loss jump.', minimum=0)
  schedule: str = field('cosine', 'Learning rate over the run after warm-up: cosine or linear down to '
                        '--final_fraction, for most runs; constant, for runs of unknown length; or plateau, which '
                        'lowers it where the validation loss stays, for runs that shall go on until nothing helps.',
                        choices=['constant', 'cosine', 'linear', 'plateau'])
  final_fraction: float = field(0.02, 'Share of the learning rate that is left at the end of cosine and linear. Raise '
                                'it for a run that shall not settle yet.',
                                minimum=0.0, maximum=1.0, only_with={'schedule': ('cosine', 'linear')})
  plateau_factor: float = field(0.5, 'What --schedule=plateau multiplies the learning rate with. Lower it to settle '
                                'in fewer evaluations.', above=0.0, below=1.0, only_with={'schedule': ('plateau',)})
  plateau_patience: int = field(2, 'Evaluations in a row without a better validation loss, after which '
                                '--schedule=plateau lowers the learning rate. Raise it where that loss is noisy.',
                                minimum=1, only_with={'schedule': ('plateau',)})
  weight_decay: float = field(0.0, 'Share of the weights that a step takes away, times the learning rate; gains, '
                              'biases and initial states keep theirs. The first to use where the model learns by '
                              'heart: 0.1 to 0.6 over many passes. 0 takes none, except that adamw has 0.004 of its '
                              'own.', minimum=0.0,
      short='Share of the weights taken away; against learning by heart.')
  clip_norm: float = field(1.0, 'Largest global gradient norm; larger gradients are scaled down to it. 0 never '
                           'clips. metrics.jsonl has the norms to choose it by.', minimum=0.0,
      only_with={'clip_percentile': (0.0,)})
  clip_percentile: float = field(0.0, 'Clip to this percentile of the gradient norms so far, this one and the last '
                                 '10,000 at most, in place of --clip_norm; 0 does not. Use it, with 10 to 90, where '
                                 'no fixed norm suits the whole run.', minimum=0.0, below=100.0)
  multi_step: int = field(0, 'Steps that the model goes on from its own predictions, in stretches that set out all '
                          'along the chunk and are judged by the true text (multi-step loss); 0 is off. Try 5 to 20 '
                          'where text that the model writes goes astray; it takes two to four times the time.',
                          minimum=0)
  multi_step_input: str = field('sampled', 'What a step of --multi_step reads: a token sampled from the prediction, as '
                                'when the model writes, or the expected embedding (expected), which gradients go '
                                'through: it costs less on observed text and helps less where the model writes.',
                                choices=['sampled', 'expected'], only_with={'multi_step': ()})
  multi_step_weight: float = field(0.5, 'Share of the loss that --multi_step gets; the loss on observed text has the '
                                   'rest. Lower it where the validation loss suffers.', minimum=0.0, maximum=1.0,
      only_with={'multi_step': ()})
  multi_step_mix: float = field(1.0, 'Probability that a step of --multi_step reads the prediction, and not the true '
                                'token. Lower it where stretches go astray too early to learn from.',
                                above=0.0, maximum=1.0, only_with={'multi_step': ()})
  multi_step_schedule: str = field('constant', 'Whether --multi_step_mix holds from the start (constant) or is reached '
                                   'at the end, from 0 up (linear), so that the model first learns to predict.',
                                   choices=['constant', 'linear'], only_with={'multi_step': ()})
  professor_forcing: float = field(0.0, 'Weight in the loss of behaving in the stretches of --multi_step as on true '
                                   'text, by the verdict of a discriminator that learns beside the model to tell the '
                                   'two apart (professor forcing); 0 is off. For long runs, where --multi_step alone '
                                   'leaves text that goes astray; --multi_step_weight=0 beside it makes it the only '
                                   'thing that stretches teach.', minimum=0.0)
  professor_forcing_teacher: bool = field(False, 'Let --professor_forcing move the behaviour on true text towards that '
                                          'of the model on its own, too. To compare, or where it moves too slowly.',
      only_with={'professor_forcing': ()})
  discriminator_learning_rate: float = field(0.001, 'Learning rate of the discriminator of --professor_forcing (Adam). '
                                             'Raise it where metrics.jsonl says that it is right less than 75% of the '
                                             'time, as the model learns nothing from it then.', above=0.0,
      only_with={'professor_forcing': ()})
  average: str = field('none', 'Weights to evaluate, keep and use, while training goes on from the last ones: none '
                       'averages nothing; ema follows them with --ema_decay, for a rate that stays high to the end, '
                       'as suits a pass or two; validation takes their mean from where the validation loss stays, for '
                       'a constant one.',
                       choices=['none', 'ema', 'validation'])
  ema_decay: float = field(0.999, 'Share of the average that each step keeps, under --average=ema; the first steps '
                           'keep less. 0.999 is about the last thousand steps: lower it for short runs.',
                           above=0.0, below=1.0, only_with={'average': ('ema',)})
  average_patience: int = field(5, 'With --average=validation, averaging begins at the first evaluation that is worse '
                                'than the best one, the last so many left out of account. Lower it where a run has few '
                                'evaluations.',
                                minimum=0, only_with={'average': ('validation',)})
  steps: int = field(0, 'Stop after this many steps; 0 sets no such limit. For runs to compare with each other.',
                     minimum=0, short='Stop after so many steps.')
  epochs: float = field(0.0, 'Stop after this many passes over the training text; 0 sets no such limit. For a budget '
                        'that fits texts of any length.',
                        minimum=0.0, short='Stop after so many passes over the text.')
  max_minutes: float = field(0.0, 'Stop after this many minutes of training, preparation and compilation included; 0 '
                             'sets no such limit. For when you want to be done: where nothing else limits the run, '
                             'sizes and rates that are not given are chosen to fit the text and the time, and shown. '
                             'With no limit at all, 10 epochs.', minimum=0.0, maximum=1e6,
      short='Stop after so many minutes; alone, it chooses what fits.')
  patience: int = field(0, 'Stop when this many evaluations in a row have not improved the validation loss; 0 never '
                        'does. Use it with a generous limit, to stop before the model learns by heart.', minimum=0,
      short='Stop when so many evaluations have not improved.')
  flat_epochs: int = field(0, 'Stop when this many passes in a row have not improved the training loss; 0 never does. '
                           'Use it where no text is held out, and the model shall learn all it can.', minimum=0)
  report_every: int = field(50, 'Steps between lines of metrics.jsonl; 0 is at the end only. Lower it to see where '
                            'a loss goes wrong.', minimum=0)
  eval_every: int = field(500, 'Steps between evaluations of the validation split; 0 is at the end only. Lower it '
                          'for short runs: the best weights are those of an evaluation.', minimum=0,
      short='Steps between evaluations.')
  save_every: int = field(500, 'Steps between checkpoints; 0 is at the end (and on Ctrl-C) only. A kill loses the '
                          'steps since the last.', minimum=0)
  sample_every: int = field(1000, 'Steps between samples of text, printed and kept in samples/; 0 is never, for runs '
                            'that nobody watches.', minimum=0, short='Steps between samples of text.')
  strategy: str = field('default', 'default trains on one device (the first GPU if there is one), mirrored on '
                        'all GPUs, or on all logical CPU devices, of this machine. Use it where there are several.',
                         choices=['default', 'mirrored'])
  seed: int = field(0, 'Everything random follows from it. Change it to see how much of a difference is luck.',
                    minimum=0, maximum=2**31 - 1, short='What everything random follows from.')
  init_from: str = field('', 'Folder of a trained model to start from: its weights, network and tokenizer, learned '
                         'further on this text by a fresh optimizer. For a small text that is like a large one that '
                         'was learned before; a --learning_rate of a third or less keeps more of it. Dropout and '
                         'penalties may be others, and are as they were where they are not given.',
      short='Folder of a trained model to start from.')
  init_weights: str = field('best', 'Weights of --init_from: best (by its validation loss), or last, where its '
                            'validation text was unlike yours.', choices=['best', 'last'],
      only_with={'init_from': ()})

  @property
  def max_epochs(self) -> float:
    """Passes over the text after which a run ends; 0 where it ends by another limit."""
    return self.epochs or (0 if self.steps or self.max_minutes else 10)

  def needing_validation(self) -> list[str]:
    """The flags that wait for validation losses, as they were given."""
    needing = {'patience': self.patience, 'schedule': self.schedule == 'plateau',
               'average': self.average == 'validation'}
    return [f'--{name}={getattr(self, name)}' for name, needs in needing.items() if needs]

  def waits(self) -> dict[str, int]:
    """{flag: the first evaluation at which it can act}, for those that wait for validation losses."""
    waits = {'patience': (self.patience, self.patience + 1),
             'plateau_patience': (self.schedule == 'plateau', self.plateau_patience + 1),
             'average_patience': (self.average == 'validation', self.average_patience + 2)}
    return {name: first for name, (acts, first) in waits.items() if acts}

  def check(self) -> None:
    for flag in () if self.eval_every else self.needing_validation():
      raise UserError(f'{flag} with --eval_every=0: expected evaluations to wait for, such as --eval_every=500')
    if self.optimizer.lower() == 'ftrl':
      self.refuse('weight_decay', beside=f'--optimizer={self.optimizer}, which makes its weights anew from sums')
    if self.multi_step and not self.multi_step_weight and not self.professor_forcing:
      raise UserError(f'--multi_step={self.multi_step} with --multi_step_weight=0: expected a share of the loss, or '
                      '--professor_forcing')
    if self.professor_forcing and (not self.multi_step or self.multi_step_input != 'sampled'):
      raise UserError(f'--professor_forcing={self.professor_forcing} with --multi_step={self.multi_step} '
                      f'--multi_step_input={self.multi_step_input}: expected stretches of sampled tokens, such as '
                      '--multi_step=20')
    # What waits as long as the run does never happens.
    for name, first in self.waits().items():
      if name != 'patience' and 0 < self.patience < first:
        raise UserError(f'--patience={self.patience} stops before --{name}={getattr(self, name)} has an effect: '
                        f'expected a patience of more than {first - 1}')
    if self.steps:
      self._check_waits(self.steps, f'--steps={self.steps}')
    if self.max_epochs:
      self._check_flat(self.max_epochs, f'{self.max_epochs:g}')

  def _check_waits(self, steps, end):
    """Raises UserError where what waits for validation losses cannot act in so many steps. end: what says so."""
    for name, first in self.waits().items():
      if steps <= first * self.eval_every:
        raise UserError(f'--{name}={getattr(self, name)} with --eval_every={self.eval_every}: can act after step '
                        f'{first * self.eval_every} at the earliest; expected that to be before the end of {end}')

  def _check_flat(self, epochs, words):
    if self.flat_epochs and epochs <= self.flat_epochs + 1:
      raise UserError(f'--flat_epochs={self.flat_epochs}: expected more than {self.flat_epochs + 1} epochs, for it to '
                      f'have an effect, not {words}')

  def check_epochs(self, steps_of_epoch: Sequence[int]) -> None:
    """As `check`, once it is known how many steps an epoch has: a number for each chunk length that has its turn."""
    if self.max_epochs:
      steps = math.ceil(self.max_epochs * statistics.mean(steps_of_epoch))
      self._check_waits(steps, f'{self.max_epochs:g} epochs ({steps:,} steps)')
    if self.steps:
      epochs = self.steps / statistics.harmonic_mean(steps_of_epoch)
      self._check_flat(epochs, f'{epochs:.2g} (--steps={self.steps})')
