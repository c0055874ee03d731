"""Flags of the network."""
import dataclasses
import re

from flags.errors import UserError
from flags.schema import Checked, field, share

GATES = {'gru': 3, 'lstm': 4}  # of each cell, the candidate state counted as one of them

WIDEST = 2**16  # numbers in a vector; a square matrix of that size has 2**32
DROPOUTS = 'dropout', 'input_dropout', 'layer_dropout', 'output_dropout', 'recurrent_dropout'


@dataclasses.dataclass(frozen=True)
class ModelConfig(Checked):
  """The network."""
  embedding_size: int = field(128, 'Numbers that stand for one token. Raise it with the vocabulary.', minimum=1,
                              maximum=WIDEST)
  input_layers: int = field(1, 'Feed-forward layers between the embedding and the first recurrent layer. They cost '
                            'almost nothing: a step computes them once for each token of the vocabulary.', minimum=0,
                            maximum=100)
  input_units: int = field(256, 'Units of a feed-forward input layer. As many as --units is a good start.', minimum=1,
                           maximum=WIDEST, only_with='input_layers')
  cell: str = field('gru', 'Recurrent cell: gru, or lstm, which has a third more weights and a state twice as large: '
                    'for comparison, or for recipes that are known for it. The native kernels support gru only.',
                    choices=list(GATES), short='Recurrent cell: gru or lstm')
  layers: int = field(2, 'Recurrent layers. Two or three are best for most text.', minimum=1, maximum=100,
                      short='Recurrent layers; two or three are best for most text')
  units: int = field(256, 'Units of a recurrent layer: the memory of the model. Work grows with the square.',
                     minimum=2, maximum=WIDEST, short='Units of a recurrent layer; work grows with the square')
  combine: str = field('sum', 'What the logits are computed from: the sum of the outputs of all recurrent layers '
                       '(sum), the last output alone, as is usual elsewhere (last), or all outputs side by side '
                       '(concat), which is slow where the vocabulary is large. sum suits most; the others are for '
                       'comparison.', choices=['sum', 'last', 'concat'], not_with='layers=1')
  wiring: str = field('plain', 'What a recurrent layer reads of the layers below: the output of the one right below '
                      '(plain); the sum of all outputs (residual), which --combine then reads too; the embedded token '
                      'and each output (dense); the embedded token, the sum of the first halves of all outputs, and '
                      'each second half (dual_path). All but plain are for three layers and more.',
                      choices=['plain', 'residual', 'dense', 'dual_path'], not_with='layers=1')
  tie_embeddings: bool = field(False, 'Use the transposed embedding as the weights of the logits, after a linear map '
                               'to its size where the sizes differ. It saves weights: use it where the vocabulary is '
                               'large for the text.')
  layer_norm: bool = field(True, 'Layer norm on every linear map, which makes learning depend less on sizes and '
                           'initial weights. false is for comparison.')
  norm: str = field('separate', 'Where layer norm stands in a recurrent layer: on each of its linear maps (separate), '
                    'or on their sum (joint), for comparison.', choices=['separate', 'joint'], only_with='layer_norm')
  cell_norm: bool = field(False, 'Layer norm on the cell of an LSTM on its way to the output. Use it with every LSTM: '
                          'it lowers the loss for hardly any work.', only_with='cell=lstm')
  initial_state: str = field('learned', 'State where text begins: learned with the weights, which helps where a text '
                             'begins often or prompts are short (learned); zeros; or normal noise with standard '
                             'deviation 0.1 in training and zeros otherwise, so that the model does not learn one '
                             'beginning by heart (noise).', choices=['learned', 'zeros', 'noise'])
  reset_probability: float = field(0.0, 'Probability that a row forgets its state at the start of a chunk in training. '
                                   'Use about 0.01 where prompts are short: a text has only one beginning, so that the '
                                   'model rarely sees one otherwise. It costs no time.', minimum=0.0, maximum=1.0)
  reset_bias: float = field(-1.0, 'Initial bias of the reset gate of a GRU; below 0 the candidate state forgets by '
                            'default. 0 is usual elsewhere, for comparison.', minimum=-100.0, maximum=100.0,
                            only_with='cell=gru')
  update_bias: float = field(-1.0, 'Initial bias of the update gate of a GRU; below 0 the state is kept by default. '
                             'Try a lower one where the text has dependencies over hundreds of tokens, 0 where it has '
                             'none.', minimum=-100.0, maximum=100.0,
                            only_with='cell=gru')
  forget_bias: float = field(1.0, 'Initial bias of the forget gate of an LSTM; above 0 the cell is kept by default. '
                             'Try a higher one where the text has dependencies over hundreds of tokens, 0 where it has '
                             'none.', minimum=-100.0, maximum=100.0, only_with='cell=lstm')
  dropout: float = share('Share of the outputs of each recurrent layer that is dropped on the way to the next layer '
                         'and to the logits, in training. Use it when the validation loss rises while the training '
                         'loss falls: from 0.05 up, with --weight_decay and as much --recurrent_dropout.',
                         short='Share of each layer\'s outputs dropped in training')
  input_dropout: float = share('Share of each embedded token, as the recurrent layers read it, that is dropped in '
                               'training. Add it where --dropout alone does not keep the validation loss from rising.')
  layer_dropout: float = share('Share of the outputs of each recurrent layer that is dropped for the layers above, '
                               'but not for the logits. For a separate rate between layers, instead of --dropout or '
                               'on top of it.', not_with='layers=1')
  output_dropout: float = share('Share of the input of the logits that is dropped in training, all layers together. '
                                'For a separate rate before the logits, instead of --dropout or on top of it.')
  embedding_dropout: float = share('Share of the vocabulary whose embeddings are dropped for a whole chunk. For large '
                                   'vocabularies and small texts; there are too few characters to drop some.')
  recurrent_dropout: float = share('Share of the candidate states of each recurrent layer that is dropped in training. '
                                   'Like --dropout, for what the model remembers; the two are usually used together.',
                                   short='Share of each layer\'s candidate states dropped in training')
  dropout_per: str = field('step', 'How often --dropout, input, layer, output and recurrent dropout draw a mask: anew '
                           'for each token (step), or once for the whole chunk (sequence), which is stronger noise: '
                           'use it with lower rates where step does not help enough.', choices=['step', 'sequence'],
                           only_with=' or '.join(DROPOUTS))
  zoneout: float = share('Share of the units of each recurrent layer (of an LSTM: of its cells) that keep their old '
                         'value at a token, in training. Like --recurrent_dropout, but gradients reach further back. '
                         '0.5 is usual for an LSTM on characters.')
  zoneout_output: float = share('Share of the outputs of an LSTM that keep their old value at a token, in training. '
                                'Use it with --zoneout; 0.05 is usual on characters.', only_with='cell=lstm')
  weight_drop: float = share('Share of the recurrent weights that is dropped in training, drawn anew for each chunk. '
                             'Instead of --recurrent_dropout, for large layers on small texts; 0.5 is usual.')
  activation_penalty: float = field(0.0, 'Weight in the training loss of the mean square of the input of the logits. '
                                    'Use it with dropout in runs of many passes, where the validation loss rises while '
                                    'the training loss falls; 1 or 2 is usual.', minimum=0.0)
  temporal_penalty: float = field(0.0, 'Weight in the training loss of the mean square of the change of the last '
                                  'layer\'s output from token to token. Use it with --activation_penalty; 1 is usual.',
                                  minimum=0.0)
  compute_dtype: str = field('float32', 'What numbers are rounded to before they are multiplied in matrix products; '
                             'sums, norms, gates and the loss stay float32. float32 keeps all digits on a CPU, but '
                             'not where the chip has something faster: NVIDIA GPUs since Ampere multiply in '
                             'TensorFloat-32, with 3 digits, TPUs in bfloat16, with 2 to 3. full_float32 keeps all '
                             'digits on every chip, at some cost in speed. bfloat16 is faster on accelerators that '
                             'support it, slower on most CPUs.', choices=['float32', 'full_float32', 'bfloat16'])

  @classmethod
  def of_training(cls) -> tuple[str, ...]:
    """Flags that change training alone: neither the shapes of the weights nor what a trained model computes."""
    return (*DROPOUTS, 'embedding_dropout', 'weight_drop', 'dropout_per', 'reset_probability', 'activation_penalty',
            'temporal_penalty')

  @property
  def drops(self) -> bool:
    """Whether training drops anything at random."""
    return any(getattr(self, name) for name in _drop_rates())

  @property
  def least_weights(self) -> int:
    """A lower bound of the number of weights, known without the vocabulary: those of input and recurrent layers."""
    entry = self.embedding_size * self.input_units + self.input_units**2 * (self.input_layers - 1)
    return (entry if self.input_layers else 0) + GATES[self.cell] * self.units**2 * (2 * self.layers - 1)

  def check(self) -> None:
    for name in _drop_rates():
      rate = getattr(self, name)
      if 0 < rate < 1 / 256:
        raise UserError(f'--{name}={rate}: expected 0 or at least 1/256, the smallest share that is drawn')


def _drop_rates() -> list[str]:
  """Flags that are the share of something that training drops."""
  return [f.name for f in dataclasses.fields(ModelConfig) if f.type is float and re.search('drop|zoneout', f.name)]


RECURRENCE_HELP = (
  'What computes the recurrent layers: native, kernels for CPUs that are built at install where there is a C++ '
  'compiler; xla, which runs anywhere; or auto, the faster of those that are there.')
