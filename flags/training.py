"""Flags of training."""
import dataclasses
import math
import statistics
from collections.abc import Sequence

from flags.data import MOST_TOKENS
from flags.errors import UserError
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
  """Training."""
  optimizer: str = field('adam', 'A Keras optimizer by name: adam, adamw, nadam, rmsprop, sgd, lion, ... adam suits '
                         'most; all but the first three need another --learning_rate. muon is our own; its steps '
                         'take longer, and its rates are higher: try --learning_rate=0.02.')
  optimizer_constants: str = field('', 'Constants of --optimizer by their Keras names, where they should differ from '
                                   'the defaults of Keras: momentum=0.9 for sgd, which is slow without, or beta_1=0.8 '
                                   'for adam.')
  learning_rate: float = field(0.003, 'Highest learning rate. Lower it where the loss jumps up or is not finite; '
                               'raise it where a short run learns too slowly.', above=0.0,
                               short='Highest learning rate; lower it where the loss jumps up')
  warmup_steps: int = field(50, 'Steps in which the learning rate rises from 0. Raise it where the first steps make '
                            'the loss jump.', minimum=0)
  schedule: str = field('cosine', 'Learning rate after the warm-up: cosine and linear lower it to --final_fraction by '
                        'the end of the run and suit most runs; constant is for runs of unknown length; plateau '
                        'lowers it whenever the validation loss stops improving, for runs that go on until nothing '
                        'helps.', choices=['constant', 'cosine', 'linear', 'plateau'],
                        short='Learning rate over the run: cosine, linear, constant or plateau')
  final_fraction: float = field(0.02, 'Share of the learning rate that is left at the end of the run. Raise it for a '
                                'run that should not settle yet.', minimum=0.0, maximum=1.0,
                                only_with='schedule=cosine|linear')
  plateau_factor: float = field(0.5, 'Factor by which --schedule=plateau lowers the learning rate. Lower it to settle '
                                'in fewer evaluations.', above=0.0, below=1.0, only_with='schedule=plateau')
  plateau_patience: int = field(2, 'Evaluations in a row without a better validation loss after which '
                                '--schedule=plateau lowers the learning rate. Raise it where that loss is noisy.',
                                minimum=1, only_with='schedule=plateau')
  weight_decay: float = field(0.0, 'Share of the weights that each step takes away, times the learning rate; gains, '
                              'biases and initial states are left alone. It is the first thing to try where the model '
                              'learns the text by heart: 0.1 to 0.6 for many passes. 0 takes nothing away, except that '
                              'adamw then has its own 0.004. ftrl computes its weights anew from sums at each step, so '
                              'that nothing can decay.', minimum=0.0, not_with='optimizer=ftrl',
                              short='Try 0.1 to 0.6 first where the model learns the text by heart; 0 is off')
  clip_norm: float = field(1.0, 'Largest global gradient norm; larger gradients are scaled down to it. 0 never '
                           'clips. metrics.jsonl has the norms to choose it by.', minimum=0.0,
                           not_with='clip_percentile', short='Largest gradient norm; 0 never clips')
  clip_percentile: float = field(0.0, 'Clip to this percentile of the gradient norms so far (of this step and the '
                                 '9,999 before it at most), instead of --clip_norm; 0 is off. Use it, with 10 to 90, '
                                 'where no fixed norm suits the whole run.', minimum=0.0, below=100.0)
  multi_step: int = field(0, 'Tokens of a rollout, in which the model reads its own predictions and is compared with '
                          'the true text (multi-step loss). Rollouts begin all along each chunk. 0 is off. Try 5 to '
                          '20 where text that the model writes goes astray. Training takes two to four times as '
                          'long.', minimum=0, maximum=MOST_TOKENS)
  multi_step_input: str = field('sampled', 'What a rollout reads at each step: a token sampled from the prediction, as '
                                'when the model writes (sampled), or the expected embedding, which gradients pass '
                                'through (expected). expected harms the loss on observed text less, and helps less '
                                'where the model writes.', choices=['sampled', 'expected'], only_with='multi_step')
  multi_step_weight: float = field(0.5, 'Share of the loss that comes from rollouts; the rest comes from observed '
                                   'text. Lower it where the validation loss suffers.', minimum=0.0, maximum=1.0,
                                   only_with='multi_step')
  multi_step_mix: float = field(1.0, 'Probability that a step of a rollout reads the prediction instead of the true '
                                'token. Lower it where predictions go astray too early to learn from.',
                                above=0.0, maximum=1.0, only_with='multi_step')
  multi_step_schedule: str = field('constant', 'Whether --multi_step_mix holds from the start (constant), or is '
                                   'reached at the end of the run, from 0 up (linear), so that the model learns to '
                                   'predict first.', choices=['constant', 'linear'], only_with='multi_step')
  professor_forcing: float = field(0.0, 'Weight of a term of the loss that makes the model behave in the rollouts of '
                                   '--multi_step as it does on true text. A discriminator, trained along with the '
                                   'model, tells the two behaviours apart (professor forcing). 0 is off. For long '
                                   'runs, where text goes astray in spite of --multi_step. With --multi_step_weight=0 '
                                   'this term is all that rollouts train.',
                                   minimum=0.0)
  professor_forcing_teacher: bool = field(False, 'Let --professor_forcing also move the behaviour on true text towards '
                                          'the behaviour on predictions. For comparison, or where the two approach '
                                          'too slowly.', only_with='professor_forcing')
  discriminator_learning_rate: float = field(0.001, 'Learning rate (of Adam) of the discriminator of '
                                             '--professor_forcing. Raise it where metrics.jsonl says that the '
                                             'discriminator is right less than 75% of the time: the model then learns '
                                             'nothing from it.', above=0.0, only_with='professor_forcing')
  average: str = field('none', 'Which weights are evaluated, kept and used: the last ones (none); a moving average '
                       'with --ema_decay, for a learning rate that stays high to the end, as suits a pass or two over '
                       'the text (ema); or the mean of all weights since the validation loss stopped improving, for '
                       'a constant learning rate (validation). Training itself goes on from the last weights.',
                       choices=['none', 'ema', 'validation'])
  ema_decay: float = field(0.999, 'Share of the moving average that each step keeps; the first steps keep less. 0.999 '
                           'averages about the last thousand steps: lower it for short runs.', above=0.0, below=1.0,
                           only_with='average=ema')
  average_patience: int = field(5, 'Averaging begins at the first evaluation that is worse than the best of those '
                                'before it, of which the latest, this many, do not count. Lower it where a run has '
                                'few evaluations.', minimum=0, only_with='average=validation')
  steps: int = field(0, 'Stop after this many steps; 0 sets no such limit. For runs to compare with each other.',
                     minimum=0, short='Stop after this many steps; 0 sets no limit')
  epochs: float = field(0.0, 'Stop after this many passes over the training text; 0 sets no such limit. For a budget '
                        'that suits texts of any length.', minimum=0.0,
                        short='Stop after this many passes over the text; 0 sets no limit')
  max_minutes: float = field(0.0, 'Stop after this many minutes of training, preparation and compilation included; 0 '
                             'sets no such limit. Where this is the only limit, sizes and rates that are not given are '
                             'chosen to fit the text and the time, and printed. A run without any limit has 10 epochs.',
                             minimum=0.0,
                             short='Stop after this time; alone, it also chooses sizes and rates')
  patience: int = field(0, 'Stop when the validation loss has not improved in this many evaluations in a row; 0 never '
                        'does. Use it with a generous limit, to stop before the model learns the text by heart.',
                        minimum=0, short='Stop after this many evaluations without a better validation loss')
  flat_epochs: int = field(0, 'Stop when the training loss has not improved in this many passes in a row; 0 never '
                           'does. Use it where no text is held out and the model should learn all that it can.',
                           minimum=0)
  report_every: int = field(50, 'Steps between lines of metrics.jsonl; 0 writes one at the end only. Lower it to see '
                            'where a loss goes wrong.', minimum=0)
  eval_every: int = field(500, 'Steps between evaluations on the validation split; 0 evaluates at the end only. Lower '
                          'it for short runs: the best weights are those of an evaluation.', minimum=0,
                          short='Steps between evaluations; 0 is at the end only')
  save_every: int = field(500, 'Steps between checkpoints; 0 saves at the end (and on Ctrl-C) only. A run that is '
                          'killed loses the steps since the last checkpoint.', minimum=0,
                          short='Steps between checkpoints; 0 is at the end only')
  sample_every: int = field(1000, 'Steps between samples of text, which are printed and kept in samples/; 0 writes '
                            'none, for runs that nobody watches.', minimum=0,
                            short='Steps between samples of text; 0 writes none')
  strategy: str = field('default', 'default trains on one device (the first GPU if there is one); mirrored on all GPUs '
                        'of this machine or, where it has none, on all logical CPU devices; multi_worker on those of '
                        'several processes or machines, which TF_CONFIG in the environment names, or --local_workers; '
                        'tpu on the cores of a TPU, where no samples are written while it trains.',
                        choices=['default', 'mirrored', 'multi_worker', 'tpu'])
  tpu: str = field('local', 'The TPU: local is that of this machine; else its name, or the address of its worker, such '
                   'as grpc://10.0.0.2:8470, whose workers must see the --cache_dir at the same path.',
                   only_with='strategy=tpu')
  seed: int = field(0, 'Everything random follows from it. Change it to see how much of a difference is luck.',
                    minimum=0, maximum=2**31 - 1, short='Everything random follows from it')
  init_from: str = field('', 'Folder of a trained model to start from. The run has its weights, network and tokenizer, '
                         'and learns this text with a fresh optimizer. For a small text that resembles a large one '
                         'that was learned before; a third of the --learning_rate, or less, keeps more of what was '
                         'learned. Dropout and penalties may differ; those that are not given are as they were.',
                         path=True,
                         short='Folder of a trained model to start from')
  init_weights: str = field('best', 'Weights of --init_from: best (by its validation loss), or last, where its '
                            'validation text was unlike yours.', choices=['best', 'last'], only_with='init_from')

  @property
  def max_epochs(self) -> float:
    """Passes over the text after which a run ends; 0 where another limit ends it."""
    return self.epochs or (0 if self.steps or self.max_minutes else 10)

  def needing_validation(self) -> list[str]:
    """The flags that wait for validation losses, as they were given: ['--patience=3']."""
    needing = {'patience': self.patience, 'schedule': self.schedule == 'plateau',
               'average': self.average == 'validation'}
    return [f'--{name}={getattr(self, name)}' for name, needs in needing.items() if needs]

  def waits(self) -> dict[str, int]:
    """The flags that wait for validation losses -> the number of the first evaluation at which they can act."""
    waits = {'patience': (self.patience, self.patience + 1),
             'plateau_patience': (self.schedule == 'plateau', self.plateau_patience + 1),
             'average_patience': (self.average == 'validation', self.average_patience + 2)}
    return {name: first for name, (acts, first) in waits.items() if acts}

  def check(self) -> None:
    for flag in () if self.eval_every else self.needing_validation():
      raise UserError(f'{flag} with --eval_every=0: expected evaluations to wait for, such as --eval_every=500')
    self._check_self_feeding()
    # What waits as long as the run does never happens.
    for name, first in self.waits().items():
      if name != 'patience' and 0 < self.patience < first:
        raise UserError(f'--patience={self.patience} stops before --{name}={getattr(self, name)} has an effect: '
                        f'expected a patience of more than {first - 1}')
    if self.steps:
      self._check_waits(self.steps, f'--steps={self.steps}')
    if self.max_epochs:
      self._check_flat(self.max_epochs, f'{self.max_epochs:g}')

  def _check_self_feeding(self) -> None:
    """Raises UserError where --multi_step has no share of the loss, or --professor_forcing no sampled tokens."""
    if self.multi_step and not self.multi_step_weight and not self.professor_forcing:
      raise UserError(f'--multi_step={self.multi_step} with --multi_step_weight=0: expected a share of the loss, or '
                      '--professor_forcing')
    if self.professor_forcing and (not self.multi_step or self.multi_step_input != 'sampled'):
      raise UserError(f'--professor_forcing={self.professor_forcing} with --multi_step={self.multi_step} '
                      f'--multi_step_input={self.multi_step_input}: expected rollouts of sampled tokens, such as '
                      '--multi_step=20')

  def _check_waits(self, steps: int, end: str) -> None:
    """Raises UserError where a flag that waits for validation losses cannot act within a run.

    Args:
      steps: of the run.
      end: what ends the run, in words.
    """
    for name, first in self.waits().items():
      if steps <= first * self.eval_every:
        raise UserError(f'--{name}={getattr(self, name)} with --eval_every={self.eval_every}: can act after step '
                        f'{first * self.eval_every} at the earliest; expected that to be before the end of {end}')

  def _check_flat(self, epochs: float, words: str) -> None:
    """Raises UserError where --flat_epochs cannot act within so many epochs, which `words` names."""
    if self.flat_epochs and epochs <= self.flat_epochs + 1:
      raise UserError(f'--flat_epochs={self.flat_epochs}: expected more than {self.flat_epochs + 1} epochs, for it to '
                      f'have an effect, not {words}')

  def check_epochs(self, steps_of_epoch: Sequence[int]) -> None:
    """Raises UserError where a flag that waits cannot act within the run, once the text is known.

    Args:
      steps_of_epoch: steps in one pass over the text, for each chunk length of the curriculum.
    """
    if self.max_epochs:
      steps = math.ceil(self.max_epochs * statistics.mean(steps_of_epoch))
      self._check_waits(steps, f'{self.max_epochs:g} epochs ({steps:,} steps)')
    if self.steps:
      epochs = self.steps / statistics.harmonic_mean(steps_of_epoch)
      self._check_flat(epochs, f'{epochs:.2g} (--steps={self.steps})')
