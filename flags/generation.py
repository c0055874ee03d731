"""Flags of charlm-sample."""
import dataclasses

from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class SampleConfig(Checked):
  """What to write."""
  workdir: str = field('', 'Folder of the trained model.', short='Folder of the trained model.')
  prompt: str = field('', 'Text to go on from; the model starts afresh when empty.', short='Text to go on from.')
  prompt_file: str = field('', 'A file that holds the text to go on from, for prompts of several lines.',
      short='A file that holds it.')
  length: int = field(500, 'Tokens to write.', minimum=1, short='Tokens to write.')
  temperature: float = field(0.8, '1 samples as the model believes, lower is more careful, 0 always takes the most '
                             'likely token.', minimum=0.0, short='1 as the model believes; lower is more careful.')
  top_k: int = field(0, 'Choose among the k most likely tokens only; 0 among all.', minimum=0,
      short='Choose among the k most likely tokens; 0 among all.')
  top_p: float = field(1.0, 'Choose among the fewest tokens whose probabilities reach this sum; 1 among all.',
                       above=0.0, maximum=1.0, short='Choose among the likeliest, up to this probability.')
  seed: int = field(0, 'The same seed writes the same text.', minimum=0, maximum=2**31 - 1,
      short='The same seed writes the same text.')
  num_samples: int = field(1, 'Texts to write side by side, each with its own random numbers.', minimum=1,
      short='Texts to write side by side.')
  stop: str = field('', 'Stop a text before this string, such as \\n for a line end.',
      short='Stop before this string.')
  interactive: bool = field(False, 'Ask for prompts at the terminal and answer them, the state carried on.',
      short='Ask for prompts and answer them.')
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'best (by validation loss) or last.', choices=['best', 'last'])

  def check(self) -> None:
    if self.prompt and self.prompt_file:
      raise UserError(f'--prompt and --prompt_file={self.prompt_file}: expected one of the two')
    if self.interactive and self.num_samples > 1:
      raise UserError(f'--interactive with --num_samples={self.num_samples}: expected one sample at a time')
