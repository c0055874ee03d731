"""What can be chosen: one frozen dataclass per group of flags, with the help text beside each field.

`flags/define.py` turns the fields into absl flags. `Config` is everything that a trained model was made
with; it is saved as `config.json` in the workdir. Contradictions are refused here and nowhere else.
"""
import dataclasses
import json
import math
import pathlib
import re
import statistics


class UserError(ValueError):
  """A mistake of the user's: one line that names the flag or file, the value and what was expected."""


class RunError(RuntimeError):
  """A failure while running that is nobody's typing mistake: one line that says what to do next."""


def field(default, text, *, choices=None, minimum=None, maximum=None, above=None, below=None):
  """A dataclass field with its help text and the values that it accepts."""
  limits = dict(choices=choices, minimum=minimum, maximum=maximum, above=above, below=below)
  metadata = {'help': text, **{k: v for k, v in limits.items() if v is not None}}
  return dataclasses.field(default=default, metadata=metadata)


def expected(metadata):
  """The accepted values of a field in words, '' where any value will do."""
  if 'choices' in metadata:
    return 'one of ' + ', '.join(c or "''" for c in metadata['choices'])
  words = [('minimum', 'at least'), ('above', 'more than'), ('maximum', 'at most'), ('below', 'less than')]
  return ' and '.join(f'{word} {metadata[key]}' for key, word in words if key in metadata)


def accepts(metadata, value):
  return (value in metadata.get('choices', [value]) and value >= metadata.get('minimum', value)
          and value <= metadata.get('maximum', value)
          and not ('above' in metadata and value <= metadata['above'])
          and not ('below' in metadata and value >= metadata['below']))


KINDS = {int: 'an integer', float: 'a number', bool: 'true or false', str: 'text'}


class Checked:
  """Checks each field against its type and metadata, then the fields together with `check`."""

  def __post_init__(self):
    for f in dataclasses.fields(self):
      value = getattr(self, f.name)
      if type(value) is not f.type and not (f.type is float and type(value) is int):
        raise UserError(f'--{f.name}={value}: expected {KINDS[f.type]}')
      if f.type is float and not math.isfinite(value):
        raise UserError(f'--{f.name}={value}: expected a finite number')
      if not accepts(f.metadata, value):
        raise UserError(f'--{f.name}={value}: expected {expected(f.metadata)}')
    self.check()

  def check(self):
    """Raises UserError where fields contradict each other."""

  def refuse(self, *names, beside):
    """Raises UserError where one of the fields `names`, which `beside` leaves without effect, is not at its default."""
    for name in names:
      value, default = getattr(self, name), self.__dataclass_fields__[name].default
      if value != default:
        raise UserError(f'--{name}={value} has no effect beside {beside}: expected it left out, or its default, '
                        f"{default if default != '' else 'empty'}")


def unescaped(text):
  r"""Text as given in a flag, with \n and \t put in."""
  return text.replace('\\n', '\n').replace('\\t', '\t')


def share(text):
  """A field for a share that chance takes of something, drawn in steps of 1/256; 0 takes nothing."""
  return field(0.0, text, minimum=0.0, maximum=255 / 256)


MAPS = {'gru': 3, 'lstm': 4}  # of each cell: a unit has so many weights for each number that it reads
DROPOUTS = 'dropout', 'input_dropout', 'layer_dropout', 'output_dropout', 'recurrent_dropout'


def is_path(corpus):
  """Whether --corpus names a place on the disk, and not a text by its own name."""
  return corpus not in ('pydoc', 'stdlib') and not corpus.startswith('tfds:')


def parse_lengths(text):
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
                      'hidden files are left out, and so are the workdirs in it.')
  data_dir: str = field('', 'Where TensorFlow Datasets keeps its data; its own default when empty. Set it where '
                        'that disk is too small, or the data lie elsewhere.')
  text_feature: str = field('', 'The feature that holds the text of a tfds: corpus; found by itself when empty. Needed '
                            'where there are several.')
  valid_fraction: float = field(0.1, 'Share of the text, cut from the end (before the test share), that '
                                'measures progress and picks the best weights. 0 trains on all, and keeps the last '
                                'weights.', minimum=0.0, below=1.0)
  test_fraction: float = field(0.0, 'Share of the text, cut from the very end, for a last look by evaluate '
                               '--split=test. Use it where the validation loss has guided many choices.',
                               minimum=0.0, below=1.0)
  tokenizer: str = field('byte', 'byte reads anything; char has one token per Unicode character of the training text, '
                         'which suits scripts beyond ASCII; sentencepiece learns --vocab_size pieces, for much text '
                         '(to export such a model, install charlm with [text]).',
                         choices=['byte', 'char', 'sentencepiece'])
  vocab_size: int = field(1000, 'Pieces that the sentencepiece tokenizer learns. More of them make fewer tokens of '
                            'the same text, each seen less often.',
                          minimum=1)
  on_invalid: str = field('error', 'What to do with bytes that are not UTF-8 under char and sentencepiece: stop and '
                          'name the place, or replace them with U+FFFD where a few of them do not matter.',
                          choices=['error', 'replace'])
  cache_dir: str = field('', 'Where tokens are kept between runs; ~/.cache/charlm when empty. Set it where the home '
                         'folder is small or slow: a text takes one to two bytes per token.')
  batch_size: int = field(16, 'Rows: parallel streams of text in one step. More rows, more tokens per second; '
                          'fewer rows, more steps per pass.', minimum=1)
  chunk_length: int = field(100, 'Tokens that one step sees in each row, and that gradients reach back. Longer '
                            'ones learn longer ties, in fewer steps per pass.', minimum=1)
  chunk_overlap: int = field(0, 'Tokens that neighbouring chunks share, each trained on more than once: gradients '
                             'reach further back, for as much more work. For little text and much time; elsewhere '
                             'more passes are worth more. The state still follows the text once.',
                             minimum=0)
  chunk_curriculum: str = field('', 'Chunk lengths to train on in turn, each for an equal share of the run, '
                                'such as 50,100,200; --chunk_length when empty. For ties that lie further apart than '
                                'early steps can learn from.')

  document_reset: bool = field(False, 'Start each document from the initial state, in training and evaluation: each '
                               'file, each example of a data set, and what --document_separator parts. Use it where '
                               'documents have nothing to do with each other, as with molecules or messages.')
  document_separator: str = field('', 'Text that ends a document, such as \\n\\n for an empty line; \\n stands for a '
                                  'line end and \\t for a tab. It stays in the text, so that the model learns to '
                                  'end documents. For --document_reset where one file holds many. One that ends a '
                                  'line suits charlm-sample, whose empty prompt is a line end.')

  @property
  def separator(self):
    """--document_separator in bytes, line ends and tabs put in."""
    return unescaped(self.document_separator).encode('utf-8', 'surrogateescape')

  def check_recurrence(self, recurrence):
    """Raises UserError where --recurrence asks for kernels that know of no documents."""
    if self.document_reset and recurrence == 'native':
      raise UserError('--recurrence=native with --document_reset: expected auto or xla, because the native kernels '
                      'cannot start afresh inside a chunk')

  @property
  def lengths(self):
    """The chunk lengths in the order in which they are trained on."""
    return parse_lengths(self.chunk_curriculum) or (self.chunk_length,)

  def check(self):
    if self.valid_fraction + self.test_fraction >= 1:
      raise UserError(f'--valid_fraction={self.valid_fraction} and --test_fraction={self.test_fraction}: expected '
                      'a sum below 1, so that text to train on is left')
    if min(self.lengths) <= self.chunk_overlap:
      raise UserError(f'--chunk_overlap={self.chunk_overlap}: expected less than the shortest chunk, '
                      f'{min(self.lengths)} tokens')
    if self.chunk_curriculum:
      self.refuse('chunk_length', beside=f'--chunk_curriculum={self.chunk_curriculum}')
    if not self.document_reset:
      self.refuse('document_separator', beside='--document_reset=False')
    if self.tokenizer != 'sentencepiece':
      self.refuse('vocab_size', beside=f'--tokenizer={self.tokenizer}')
    if self.tokenizer == 'byte':
      self.refuse('on_invalid', beside='--tokenizer=byte, which reads any bytes')
    if not self.corpus.startswith('tfds:'):
      self.refuse('data_dir', 'text_feature', beside=f'--corpus={self.corpus}, which is not of TensorFlow Datasets')


@dataclasses.dataclass(frozen=True)
class ModelConfig(Checked):
  """The network."""
  embedding_size: int = field(128, 'Numbers that stand for one token. Raise it with the vocabulary.', minimum=1)
  input_layers: int = field(1, 'Feed-forward layers between the embedding and the first recurrent layer. They '
                            'cost almost nothing: each token of the vocabulary goes through once per step.',
                            minimum=0)
  input_units: int = field(256, 'Units of a feed-forward input layer. As many as --units is a good start.', minimum=1)
  cell: str = field('gru', 'Recurrent cell: gru, or lstm, which has a third more weights and twice the state: to '
                    'compare, or for recipes that are known for it. The native kernels have gru.',
                    choices=list(MAPS))
  layers: int = field(2, 'Recurrent layers. Two or three are best for most text.', minimum=1)
  units: int = field(256, 'Units of a recurrent layer: the memory of the model. Work grows with its square.',
                     minimum=2)
  combine: str = field('sum', 'What the logits read: the sum of the outputs of all recurrent layers, the last one '
                       'alone, as is common elsewhere, or all side by side (concat), which costs where the vocabulary '
                       'is large. sum suits most; the others are to compare.', choices=['sum', 'last', 'concat'])
  wiring: str = field('plain', 'What a recurrent layer reads of those below: the output of the one right below '
                      '(plain); the sum of all outputs (residual), which --combine then reads too; the embedded token '
                      'and each output (dense); the embedded token, the sum of the first halves of all outputs, and '
                      'each second half (dual_path). Other than plain is for three layers and more.',
                      choices=['plain', 'residual', 'dense', 'dual_path'])
  tie_embeddings: bool = field(False, 'Make the logits with the transposed embedding, after a linear map to its size '
                               'where that differs from what the logits read. Use it where the vocabulary is large for '
                               'the text: it saves weights.')
  layer_norm: bool = field(True, 'Layer norm on every linear map, which makes learning depend less on sizes and '
                           'first weights. false is for comparison.')
  norm: str = field('separate', 'Where layer norm stands in a recurrent layer: on each input of its maps separately, '
                    'or jointly on their sum, to compare with.', choices=['separate', 'joint'])
  cell_norm: bool = field(False, 'Layer norm on the cell of an LSTM on its way to the output. Use it with --cell=lstm: '
                          'it lowers the loss for hardly any work.')
  initial_state: str = field('learned', 'State where text begins: learned with the weights, which helps where many '
                             'texts begin or prompts are short; zeros; or noise, normal with standard deviation 0.1 in '
                             'training and zeros after it, so that no one beginning is learned by heart.',
                             choices=['learned', 'zeros', 'noise'])
  reset_probability: float = field(0.0, 'Probability that a row forgets its state at the start of a chunk in training. '
                                   'Use about 0.01 where prompts are short, which costs nothing: a text has one '
                                   'beginning, and others must be made to learn from.', minimum=0.0, maximum=1.0)
  reset_bias: float = field(-1.0, 'First bias of the reset gate of a GRU; below 0 the candidate forgets by default. 0 '
                            'is the usual choice elsewhere, to compare with.')
  update_bias: float = field(-1.0, 'First bias of the update gate of a GRU; below 0 the state is kept by default. '
                             'Try lower where the text has ties over hundreds of tokens, 0 where it has none.')
  forget_bias: float = field(1.0, 'First bias of the forget gate of an LSTM; above 0 the cell is kept by default. '
                             'Try higher where the text has ties over hundreds of tokens, 0 where it has none.')
  dropout: float = share('Share of the outputs of each recurrent layer that is dropped on the way up, to the next '
                         'layer and to the logits, in training. Use it, from 0.05 up, beside --weight_decay and as '
                         'much --recurrent_dropout, when the validation loss rises while the training loss falls.')
  input_dropout: float = share('Share dropped of what the recurrent layers read of a token, in training. Beside '
                               '--dropout, where it alone does not keep the validation loss from rising.')
  layer_dropout: float = share('Share of the outputs of each recurrent layer that is dropped for the layers above, '
                               'but not for the logits. For a rate between layers of its own, instead of --dropout '
                               'or on top of it.')
  output_dropout: float = share('Share dropped of what the logits read, all layers together. For a rate of its own '
                                'before the logits, instead of --dropout or on top of it.')
  embedding_dropout: float = share('Share of the vocabulary that is dropped from the input for a whole chunk. For '
                                   'large vocabularies and little text; characters are too few to do without.')
  recurrent_dropout: float = share('Share of the candidate states of each recurrent layer that is dropped in '
                                   'training. As --dropout, for what the model remembers; both together are usual.')
  dropout_per: str = field('step', 'Whether --dropout, input, layer, output and recurrent dropout draw anew for each '
                           'token or hold one mask for the whole chunk (sequence), a stronger noise: use it with lower '
                           'rates where per step does not help enough.', choices=['step', 'sequence'])
  zoneout: float = share('Share of the units of each recurrent layer (LSTM: of its cells) that keep their old value '
                         'for a token in training. As --recurrent_dropout, and gradients reach further back. For an '
                         'LSTM 0.5 is usual with characters.')
  zoneout_output: float = share('Share of the outputs of an LSTM that keep their old value for a token in training. '
                                'Beside --zoneout; 0.05 is usual with characters.')
  weight_drop: float = share('Share of the recurrent weights that is dropped, anew for each chunk, in training. '
                             'Instead of --recurrent_dropout, for large layers on little text; 0.5 is usual.')
  activation_penalty: float = field(0.0, 'Weight in the training loss of the mean square of what the logits read. '
                                    'Use it over many passes, beside dropout, where the validation loss rises while '
                                    'the training loss falls; 1 or 2 is usual.', minimum=0.0)
  temporal_penalty: float = field(0.0, 'Weight in the training loss of the mean square of the change of the last '
                                  'layer\'s output from token to token. Beside --activation_penalty; 1 is usual.',
                                  minimum=0.0)
  compute_dtype: str = field('float32', 'What numbers are rounded to before they are multiplied in matrix products; '
                             'sums, norms, gates and the loss stay float32. bfloat16 is faster on accelerators that '
                             'have it, slower on most CPUs.', choices=['float32', 'bfloat16'])

  @classmethod
  def of_training(cls):
    """Flags that change what is learned from a step, but neither the weights' shapes nor what the model is after it."""
    return (*DROPOUTS, 'embedding_dropout', 'weight_drop', 'dropout_per', 'reset_probability', 'activation_penalty',
            'temporal_penalty')

  @property
  def drops(self):
    """Whether training drops anything at random."""
    rates = [f.name for f in dataclasses.fields(self) if f.type is float and re.search('drop|zoneout', f.name)]
    return any(getattr(self, name) for name in rates)

  @property
  def least_weights(self):
    """Numbers in the largest weights, whatever the vocabulary: a lower bound that costs nothing to know."""
    entry = self.embedding_size * self.input_units + self.input_units**2 * (self.input_layers - 1)
    return (entry if self.input_layers else 0) + MAPS[self.cell] * self.units**2 * (2 * self.layers - 1)

  def check(self):
    for name in (*DROPOUTS, 'embedding_dropout', 'zoneout', 'zoneout_output', 'weight_drop'):
      rate = getattr(self, name)
      if 0 < rate < 1 / 256:
        raise UserError(f'--{name}={rate}: expected 0 or at least 1/256, the smallest share that is drawn')
    if not self.input_layers:
      self.refuse('input_units', beside='--input_layers=0')
    if self.cell != 'lstm':
      self.refuse('forget_bias', 'cell_norm', 'zoneout_output', beside=f'--cell={self.cell}')
    if self.cell != 'gru':
      self.refuse('reset_bias', 'update_bias', beside=f'--cell={self.cell}')
    if not self.layer_norm:
      self.refuse('norm', beside='--layer_norm=False')
    if self.layers == 1:
      self.refuse('combine', 'wiring', 'layer_dropout', beside='--layers=1')
    if not any(getattr(self, name) for name in DROPOUTS):
      self.refuse('dropout_per', beside=f'no dropout of --{", --".join(DROPOUTS)}')


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
  """Training."""
  optimizer: str = field('adam', 'A Keras optimizer by name: adam, adamw, nadam, rmsprop, sgd, lion, ... adam suits '
                         'most; beyond the first three each needs a --learning_rate of its own.')
  optimizer_constants: str = field('', 'Constants of --optimizer that shall not be what Keras has, by its names for '
                                   'them: momentum=0.9 for sgd, which is slow without, or beta_1=0.8 for adam.')
  learning_rate: float = field(0.003, 'Highest learning rate. Lower it where the loss jumps up or is not finite; '
                               'raise it where a short run learns too slowly.', above=0.0)
  warmup_steps: int = field(50, 'Steps in which the learning rate rises from 0. Raise it where the first steps make '
                            'the loss jump.', minimum=0)
  schedule: str = field('cosine', 'Learning rate over the run after warm-up: cosine or linear down to '
                        '--final_fraction, for most runs; constant, for runs of unknown length; or plateau, which '
                        'lowers it where the validation loss stays, for runs that shall go on until nothing helps.',
                        choices=['constant', 'cosine', 'linear', 'plateau'])
  final_fraction: float = field(0.02, 'Share of the learning rate that is left at the end of cosine and linear. Raise '
                                'it for a run that shall not settle yet.',
                                minimum=0.0, maximum=1.0)
  plateau_factor: float = field(0.5, 'What --schedule=plateau multiplies the learning rate with. Lower it to settle '
                                'in fewer evaluations.', above=0.0, below=1.0)
  plateau_patience: int = field(2, 'Evaluations in a row without a better validation loss, after which '
                                '--schedule=plateau lowers the learning rate. Raise it where that loss is noisy.',
                                minimum=1)
  weight_decay: float = field(0.0, 'Share of the weights that a step takes away, times the learning rate; gains, '
                              'biases and initial states keep theirs. The first to use where the model learns by '
                              'heart: 0.1 to 0.6 over many passes. 0 takes none, except that adamw has 0.004 of its '
                              'own.', minimum=0.0)
  clip_norm: float = field(1.0, 'Largest global gradient norm; larger gradients are scaled down to it. 0 never '
                           'clips. metrics.jsonl has the norms to choose it by.', minimum=0.0)
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
                                choices=['sampled', 'expected'])
  multi_step_weight: float = field(0.5, 'Share of the loss that --multi_step gets; the loss on observed text has the '
                                   'rest. Lower it where the validation loss suffers.', minimum=0.0, maximum=1.0)
  multi_step_mix: float = field(1.0, 'Probability that a step of --multi_step reads the prediction, and not the true '
                                'token. Lower it where stretches go astray too early to learn from.',
                                above=0.0, maximum=1.0)
  multi_step_schedule: str = field('constant', 'Whether --multi_step_mix holds from the start (constant) or is reached '
                                   'at the end, from 0 up (linear), so that the model first learns to predict.',
                                   choices=['constant', 'linear'])
  professor_forcing: float = field(0.0, 'Weight in the loss of behaving in the stretches of --multi_step as on true '
                                   'text, by the verdict of a discriminator that learns beside the model to tell the '
                                   'two apart (professor forcing); 0 is off. For long runs, where --multi_step alone '
                                   'leaves text that goes astray; --multi_step_weight=0 beside it makes it the only '
                                   'thing that stretches teach.', minimum=0.0)
  professor_forcing_teacher: bool = field(False, 'Let --professor_forcing move the behaviour on true text towards that '
                                          'of the model on its own, too. To compare, or where it moves too slowly.')
  discriminator_learning_rate: float = field(0.001, 'Learning rate of the discriminator of --professor_forcing (Adam). '
                                             'Raise it where metrics.jsonl says that it is right less than 75% of the '
                                             'time, as the model learns nothing from it then.', above=0.0)
  average: str = field('none', 'Weights to evaluate, keep and use, while training goes on from the last ones: none '
                       'averages nothing; ema follows them with --ema_decay, for a rate that stays high to the end, '
                       'as suits a pass or two; validation takes their mean from where the validation loss stays, for '
                       'a constant one.',
                       choices=['none', 'ema', 'validation'])
  ema_decay: float = field(0.999, 'Share of the average that each step keeps, under --average=ema; the first steps '
                           'keep less. 0.999 is about the last thousand steps: lower it for short runs.',
                           above=0.0, below=1.0)
  average_patience: int = field(5, 'With --average=validation, averaging begins at the first evaluation that is worse '
                                'than the best one, the last so many left out of account. Lower it where a run has few '
                                'evaluations.',
                                minimum=0)
  steps: int = field(0, 'Stop after this many steps; 0 sets no such limit. For runs to compare with each other.',
                     minimum=0)
  epochs: float = field(0.0, 'Stop after this many passes over the training text; 0 sets no such limit. For a budget '
                        'that fits texts of any length.',
                        minimum=0.0)
  max_minutes: float = field(0.0, 'Stop after this many minutes of training, preparation and compilation included; 0 '
                             'sets no such limit. For when you want to be done: where nothing else limits the run, '
                             'sizes and rates that are not given are chosen to fit the text and the time, and shown. '
                             'With no limit at all, 10 epochs.', minimum=0.0, maximum=1e6)
  patience: int = field(0, 'Stop when this many evaluations in a row have not improved the validation loss; 0 never '
                        'does. Use it with a generous limit, to stop before the model learns by heart.', minimum=0)
  flat_epochs: int = field(0, 'Stop when this many passes in a row have not improved the training loss; 0 never does. '
                           'Use it where no text is held out, and the model shall learn all it can.', minimum=0)
  report_every: int = field(50, 'Steps between lines of metrics.jsonl; 0 is at the end only. Lower it to see where '
                            'a loss goes wrong.', minimum=0)
  eval_every: int = field(500, 'Steps between evaluations of the validation split; 0 is at the end only. Lower it '
                          'for short runs: the best weights are those of an evaluation.', minimum=0)
  save_every: int = field(500, 'Steps between checkpoints; 0 is at the end (and on Ctrl-C) only. A kill loses the '
                          'steps since the last.', minimum=0)
  sample_every: int = field(1000, 'Steps between samples of text, printed and kept in samples/; 0 is never, for runs '
                            'that nobody watches.', minimum=0)
  strategy: str = field('default', 'default trains on one device (the first GPU if there is one), mirrored on '
                        'all GPUs, or on all logical CPU devices, of this machine. Use it where there are several.',
                         choices=['default', 'mirrored'])
  seed: int = field(0, 'Everything random follows from it. Change it to see how much of a difference is luck.',
                    minimum=0, maximum=2**31 - 1)
  init_from: str = field('', 'Folder of a trained model to start from: its weights, network and tokenizer, learned '
                         'further on this text by a fresh optimizer. For a small text that is like a large one that '
                         'was learned before; a --learning_rate of a third or less keeps more of it. Dropout and '
                         'penalties may be others, and are as they were where they are not given.')
  init_weights: str = field('best', 'Weights of --init_from: best (by its validation loss), or last, where its '
                            'validation text was unlike yours.', choices=['best', 'last'])

  @property
  def most_epochs(self):
    """Passes over the text after which a run ends; 0 where it ends by another limit."""
    return self.epochs or (0 if self.steps or self.max_minutes else 10)

  def needing_validation(self):
    """The flags that wait for validation losses, as they were given."""
    needing = {'patience': self.patience, 'schedule': self.schedule == 'plateau',
               'average': self.average == 'validation'}
    return [f'--{name}={getattr(self, name)}' for name, needs in needing.items() if needs]

  def waits(self):
    """{flag: the first evaluation at which it can act}, for those that wait for validation losses."""
    waits = {'patience': (self.patience, self.patience + 1),
             'plateau_patience': (self.schedule == 'plateau', self.plateau_patience + 1),
             'average_patience': (self.average == 'validation', self.average_patience + 2)}
    return {name: first for name, (acts, first) in waits.items() if acts}

  def check(self):
    for flag in () if self.eval_every else self.needing_validation():
      raise UserError(f'{flag} with --eval_every=0: expected evaluations to wait for, such as --eval_every=500')
    if self.schedule not in ('cosine', 'linear'):
      self.refuse('final_fraction', beside=f'--schedule={self.schedule}')
    if self.schedule != 'plateau':
      self.refuse('plateau_factor', 'plateau_patience', beside=f'--schedule={self.schedule}')
    if self.optimizer.lower() == 'ftrl':
      self.refuse('weight_decay', beside=f'--optimizer={self.optimizer}, which makes its weights anew from sums')
    if self.clip_percentile:
      self.refuse('clip_norm', beside=f'--clip_percentile={self.clip_percentile}')
    if not self.multi_step:
      self.refuse(*(f.name for f in dataclasses.fields(self) if f.name.startswith('multi_step_')),
                  beside='--multi_step=0')
    elif not self.multi_step_weight and not self.professor_forcing:
      raise UserError(f'--multi_step={self.multi_step} with --multi_step_weight=0: expected a share of the loss, or '
                      '--professor_forcing')
    if not self.professor_forcing:
      self.refuse('professor_forcing_teacher', 'discriminator_learning_rate', beside='--professor_forcing=0.0')
    elif not self.multi_step or self.multi_step_input != 'sampled':
      raise UserError(f'--professor_forcing={self.professor_forcing} with --multi_step={self.multi_step} '
                      f'--multi_step_input={self.multi_step_input}: expected stretches of sampled tokens, such as '
                      '--multi_step=20')
    if self.average != 'ema':
      self.refuse('ema_decay', beside=f'--average={self.average}')
    if self.average != 'validation':
      self.refuse('average_patience', beside=f'--average={self.average}')
    # What waits as long as the run does never happens.
    for name, first in self.waits().items():
      if name != 'patience' and 0 < self.patience < first:
        raise UserError(f'--patience={self.patience} stops before --{name}={getattr(self, name)} has an effect: '
                        f'expected a patience of more than {first - 1}')
    if self.steps:
      self._check_waits(self.steps, f'--steps={self.steps}')
    if self.most_epochs:
      self._check_flat(self.most_epochs, f'{self.most_epochs:g}')
    if not self.init_from:
      self.refuse('init_weights', beside='--init_from=, which names no model')

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

  def check_epochs(self, steps_of_epoch):
    """As `check`, once it is known how many steps an epoch has: a number for each chunk length that has its turn."""
    if self.most_epochs:
      steps = math.ceil(self.most_epochs * statistics.mean(steps_of_epoch))
      self._check_waits(steps, f'{self.most_epochs:g} epochs ({steps:,} steps)')
    if self.steps:
      epochs = self.steps / statistics.harmonic_mean(steps_of_epoch)
      self._check_flat(epochs, f'{epochs:.2g} (--steps={self.steps})')


@dataclasses.dataclass(frozen=True)
class Config:
  """All that a trained model was made with."""
  data: DataConfig = DataConfig()
  model: ModelConfig = ModelConfig()
  train: TrainConfig = TrainConfig()

  def __post_init__(self):
    if self.train.multi_step >= min(self.data.lengths):
      raise UserError(f'--multi_step={self.train.multi_step}: expected less than the shortest chunk, '
                      f'{min(self.data.lengths)} tokens')
    if not self.data.valid_fraction and not self.data.corpus.startswith('tfds:'):
      for flag in self.train.needing_validation():
        raise UserError(f'{flag} with --valid_fraction=0: expected a validation split to wait for')

  def to_json(self):
    return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

  @classmethod
  def from_json(cls, text):
    """Raises UserError where `text` is not a configuration of this version."""
    groups = {f.name: f.type for f in dataclasses.fields(cls)}
    try:
      return cls(**{name: groups[name](**values) for name, values in json.loads(text).items()})
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
      raise UserError(f'not a charlm configuration ({error})') from error

  def flat(self):
    """Flag name -> value."""
    return {k: v for group in dataclasses.asdict(self).values() for k, v in group.items()}

  def replace(self, values):
    """With these values of flags, by name."""
    assert values.keys() <= self.flat().keys(), values
    groups = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return Config(**{name: dataclasses.replace(group, **{k: v for k, v in values.items()
                                                         if k in group.__dataclass_fields__})
                     for name, group in groups.items()})


RECURRENCE_HELP = (
  'What computes the recurrent layers: native kernels for CPUs, which are built at install where there is a C++ '
  'compiler; xla, which runs anywhere; or auto, the faster of those that are there.')


@dataclasses.dataclass(frozen=True)
class RunConfig(Checked):
  """Where the model goes, and a recipe to start from."""
  workdir: str = field('', 'Folder for the model and everything about it. A run that has saved a checkpoint there '
                       'goes on; flags left out then keep their values.')
  preset: str = field('', 'A named recipe that comes with charlm, such as demo; flags beside it win. A place to start '
                      'from.')
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  profile: bool = field(False, 'Profile ten steps, once the first steps are over, for TensorBoard\'s Profile page (pip '
                        'install tensorboard-plugin-profile). Use it to see where the time of a step goes.')

  def check(self):
    if not self.workdir:
      raise UserError('--workdir: expected a folder for the model, such as --workdir=runs/first')


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Checked):
  """What to evaluate."""
  workdir: str = field('', 'Folder of the trained model.')
  corpus: str = field('', 'Other text to evaluate on, as for train --corpus; the text trained on when empty.')
  split: str = field('', 'Part of the corpus: valid (the default for the text trained on), test, train, or all (the '
                     'default for other text).', choices=['', 'train', 'valid', 'test', 'all'])
  batch_size: int = field(0, 'Rows; changes the speed, not the result (but what luck does to --mc_dropout). 0 '
                          'chooses by the length of the text. With '
                          '--dynamic 0 is 1 row; more are faster, but then early text is predicted with what was '
                          'learned from later rows, and the figure is no longer that of one stream.', minimum=0)
  chunk_length: int = field(64, 'Tokens in a step; changes the speed, not the result (but for masks of --mc_dropout '
                              'that hold for a chunk).', minimum=1)
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'best (by validation loss) or last.', choices=['best', 'last'])
  dynamic: bool = field(False, 'Learn from each segment of the text once it is scored (dynamic evaluation), which '
                        'suits text that repeats itself or differs from the text trained on. Needs the text trained '
                        'on, for the sizes of its gradients, and many times the time. The saved weights stay as they '
                        'are.')
  dynamic_learning_rate: float = field(0.0, 'How far a segment moves the weights; 0 chooses by how many there are, and '
                                       'the report says what (0.00003 for two million). Raise it for text unlike the '
                                       'text trained on; lower it where the figure is worse than without --dynamic.',
                                       minimum=0.0)
  dynamic_decay: float = field(0.02, 'How fast the weights go back to the trained ones. Raise it where the text '
                               'changes its subject often, lower it for long texts on one.', minimum=0.0, maximum=1.0)
  dynamic_length: int = field(20, 'Tokens in a segment. Longer ones are faster, shorter ones learn sooner from what '
                              'was just read.', minimum=1)
  dynamic_statistics: int = field(500, 'Steps over the text trained on that measure its gradients, each of '
                                  '--dynamic_length tokens of 32 rows. Raise it for large vocabularies, many of whose '
                                  'tokens are rare.', minimum=1)
  mc_dropout: int = field(0, 'Passes with dropout on whose probabilities are averaged (Monte Carlo dropout), for a '
                          'model that was trained with dropout or its kin: often a little better than one pass '
                          'without, for so many times the work. 0 is one pass without.', minimum=0)
  free_running: int = field(0, 'Adds the loss of each of so many tokens that follow on observed text, where the model '
                            'has read its own samples in place of those between: how fast it goes astray when it '
                            'writes. A mean over starts all along the text, that many tokens apart; 0 adds nothing.',
                            minimum=0)
  seed: int = field(0, 'What the draws of --mc_dropout and --free_running follow from. Change it to see how much of a '
                    'difference is luck.', minimum=0, maximum=2**31 - 1)

  def check(self):
    if self.dynamic and self.mc_dropout:
      raise UserError(f'--dynamic with --mc_dropout={self.mc_dropout}: expected one of the two')
    if self.dynamic:
      self.refuse('chunk_length', beside='--dynamic=True, which has a --dynamic_length')
    else:
      self.refuse('dynamic_learning_rate', 'dynamic_decay', 'dynamic_length', 'dynamic_statistics',
                  beside='--dynamic=False')
    if self.free_running == 1:
      raise UserError('--free_running=1: expected 0, or at least 2, as the first token is that of the usual loss')
    for name in ('dynamic', 'mc_dropout'):
      if self.free_running and getattr(self, name):
        raise UserError(f'--free_running={self.free_running} with --{name}={getattr(self, name)}: expected one of the '
                        'two')
    if not self.mc_dropout and not self.free_running:
      self.refuse('seed', beside='--mc_dropout=0 and --free_running=0')


@dataclasses.dataclass(frozen=True)
class SampleConfig(Checked):
  """What to write."""
  workdir: str = field('', 'Folder of the trained model.')
  prompt: str = field('', 'Text to go on from; the model starts afresh when empty.')
  prompt_file: str = field('', 'A file that holds the text to go on from, for prompts of several lines.')
  length: int = field(500, 'Tokens to write.', minimum=1)
  temperature: float = field(0.8, '1 samples as the model believes, lower is more careful, 0 always takes the most '
                             'likely token.', minimum=0.0)
  top_k: int = field(0, 'Choose among the k most likely tokens only; 0 among all.', minimum=0)
  top_p: float = field(1.0, 'Choose among the fewest tokens whose probabilities reach this sum; 1 among all.',
                       above=0.0, maximum=1.0)
  seed: int = field(0, 'The same seed writes the same text.', minimum=0, maximum=2**31 - 1)
  num_samples: int = field(1, 'Texts to write side by side, each with its own random numbers.', minimum=1)
  stop: str = field('', 'Stop a text before this string, such as \\n for a line end.')
  interactive: bool = field(False, 'Ask for prompts at the terminal and answer them, the state carried on.')
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'best (by validation loss) or last.', choices=['best', 'last'])

  def check(self):
    if self.prompt and self.prompt_file:
      raise UserError(f'--prompt and --prompt_file={self.prompt_file}: expected one of the two')
    if self.interactive and self.num_samples > 1:
      raise UserError(f'--interactive with --num_samples={self.num_samples}: expected one sample at a time')


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
  """What to export."""
  workdir: str = field('', 'Folder of the trained model.')
  export_dir: str = field('', 'Folder that TF Serving watches; the model goes to EXPORT_DIR/VERSION.')
  version: int = field(0, 'Version of the served model; one more than the newest there when 0.', minimum=0,
                       maximum=2**63 - 1)
  weights: str = field('best', 'best (by validation loss) or last.', choices=['best', 'last'])


def read_config(workdir, flag='workdir'):
  """The configuration that the model in `workdir` was trained with.

  Raises UserError, which names the folder as `flag` does, where there is none.
  """
  path = pathlib.Path(workdir) / 'config.json'
  if not workdir:
    raise UserError(f'--{flag}: expected the folder of a trained model, such as --{flag}=runs/first')
  if not path.is_file():
    raise UserError(f'--{flag}={workdir}: expected a folder with a config.json, which charlm-train makes')
  try:
    return Config.from_json(path.read_text(encoding='utf-8'))
  except (UserError, OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path}: {error}') from error
