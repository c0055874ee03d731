"""Flags of the network."""
import dataclasses
import re

from flags.errors import UserError
from flags.schema import Checked, field, share

GATES = {'gru': 3, 'lstm': 4}  # of each cell: a unit has so many weights for each number that it reads


DROPOUTS = 'dropout', 'input_dropout', 'layer_dropout', 'output_dropout', 'recurrent_dropout'


@dataclasses.dataclass(frozen=True)
class ModelConfig(Checked):
  """The network."""
  embedding_size: int = field(128, 'Numbers that stand for one token. Raise it with the vocabulary.', minimum=1)
  input_layers: int = field(1, 'Feed-forward layers between the embedding and the first recurrent layer. They '
                            'cost almost nothing: each token of the vocabulary goes through once per step.',
                            minimum=0)
  input_units: int = field(256, 'Units of a feed-forward input layer. As many as --units is a good start.', minimum=1,
      only_with={'input_layers': ()})
  cell: str = field('gru', 'Recurrent cell: gru, or lstm, which has a third more weights and twice the state: to '
                    'compare, or for recipes that are known for it. The native kernels have gru.',
                    choices=list(GATES), short='Recurrent cell: gru or lstm.')
  layers: int = field(2, 'Recurrent layers. Two or three are best for most text.', minimum=1,
      short='Recurrent layers.')
  units: int = field(256, 'Units of a recurrent layer: the memory of the model. Work grows with its square.',
                     minimum=2, short='Units of a recurrent layer: the memory of the model.')
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
                    'or jointly on their sum, to compare with.', choices=['separate', 'joint'],
      only_with={'layer_norm': ()})
  cell_norm: bool = field(False, 'Layer norm on the cell of an LSTM on its way to the output. Use it with --cell=lstm: '
                          'it lowers the loss for hardly any work.', only_with={'cell': ('lstm',)})
  initial_state: str = field('learned', 'State where text begins: learned with the weights, which helps where many '
                             'texts begin or prompts are short; zeros; or noise, normal with standard deviation 0.1 in '
                             'training and zeros after it, so that no one beginning is learned by heart.',
                             choices=['learned', 'zeros', 'noise'])
  reset_probability: float = field(0.0, 'Probability that a row forgets its state at the start of a chunk in training. '
                                   'Use about 0.01 where prompts are short, which costs nothing: a text has one '
                                   'beginning, and others must be made to learn from.', minimum=0.0, maximum=1.0)
  reset_bias: float = field(-1.0, 'First bias of the reset gate of a GRU; below 0 the candidate forgets by default. 0 '
                            'is the usual choice elsewhere, to compare with.', only_with={'cell': ('gru',)})
  update_bias: float = field(-1.0, 'First bias of the update gate of a GRU; below 0 the state is kept by default. '
                             'Try lower where the text has ties over hundreds of tokens, 0 where it has none.',
      only_with={'cell': ('gru',)})
  forget_bias: float = field(1.0, 'First bias of the forget gate of an LSTM; above 0 the cell is kept by default. '
                             'Try higher where the text has ties over hundreds of tokens, 0 where it has none.',
      only_with={'cell': ('lstm',)})
  dropout: float = share('Share of the outputs of each recurrent layer that is dropped on the way up, to the next '
                         'layer and to the logits, in training. Use it, from 0.05 up, beside --weight_decay and as '
                         'much --recurrent_dropout, when the validation loss rises while the training loss falls.',
      short='Share of outputs dropped in training; over many passes.')
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
                                   'training. As --dropout, for what the model remembers; both together are usual.',
      short='Share of candidate states dropped; beside --dropout.')
  dropout_per: str = field('step', 'Whether --dropout, input, layer, output and recurrent dropout draw anew for each '
                           'token or hold one mask for the whole chunk (sequence), a stronger noise: use it with lower '
                           'rates where per step does not help enough.', choices=['step', 'sequence'])
  zoneout: float = share('Share of the units of each recurrent layer (LSTM: of its cells) that keep their old value '
                         'for a token in training. As --recurrent_dropout, and gradients reach further back. For an '
                         'LSTM 0.5 is usual with characters.')
  zoneout_output: float = share('Share of the outputs of an LSTM that keep their old value for a token in training. '
                                'Beside --zoneout; 0.05 is usual with characters.', only_with={'cell': ('lstm',)})
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
  def of_training(cls) -> tuple[str, ...]:
    """Flags that change what is learned from a step, but neither the weights' shapes nor what the model is after it."""
    return (*DROPOUTS, 'embedding_dropout', 'weight_drop', 'dropout_per', 'reset_probability', 'activation_penalty',
            'temporal_penalty')

  @property
  def drops(self) -> bool:
    """Whether training drops anything at random."""
    rates = [f.name for f in dataclasses.fields(self) if f.type is float and re.search('drop|zoneout', f.name)]
    return any(getattr(self, name) for name in rates)

  @property
  def least_weights(self) -> int:
    """Numbers in the largest weights, whatever the vocabulary: a lower bound that costs nothing to know."""
    entry = self.embedding_size * self.input_units + self.input_units**2 * (self.input_layers - 1)
    return (entry if self.input_layers else 0) + GATES[self.cell] * self.units**2 * (2 * self.layers - 1)

  def check(self) -> None:
    for name in (*DROPOUTS, 'embedding_dropout', 'zoneout', 'zoneout_output', 'weight_drop'):
      rate = getattr(self, name)
      if 0 < rate < 1 / 256:
        raise UserError(f'--{name}={rate}: expected 0 or at least 1/256, the smallest share that is drawn')
    if self.layers == 1:
      self.refuse('combine', 'wiring', 'layer_dropout', beside='--layers=1')
    if not any(getattr(self, name) for name in DROPOUTS):
      self.refuse('dropout_per', beside=f'no dropout of --{", --".join(DROPOUTS)}')


RECURRENCE_HELP = (
  'What computes the recurrent layers: native kernels for CPUs, which are built at install where there is a C++ '
  'compiler; xla, which runs anywhere; or auto, the faster of those that are there.')
