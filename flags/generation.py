"""Flags of charlm-sample."""
import dataclasses

from flags import served, typed
from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field

# What a server can do; the rest is chosen at its export.
SERVED = 'prompt', 'prompt_file', 'length', 'temperature', 'top_k', 'top_p', 'seed', 'num_samples', 'interactive'
MOST_SAMPLES = 10**6  # texts for a prompt
MOST_SEED = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class SampleConfig(Checked):
  """What to write."""
  workdir: str = field('', 'Folder of the trained model.', path=True, short='Folder of the trained model')
  prompt: str = field('', 'Text to continue; the model starts from nothing when empty.', escapes=True,
                      short='Text to continue')
  prompt_file: str = field('', 'A file with the text to continue, for prompts of several lines. It is read as it is: '
                           'its line ends stay, those of its end included.', path=True,
                           short='A file with the text to continue')
  prompts: str = field('', 'A file with many texts to continue, one a line, or - for standard input. Lines may be JSON '
                       'objects such as {"prompt": "It was"}, if the first one is or the name ends in .jsonl; other '
                       'keys are passed on to --output=json and jsonl.', path=True, not_with='interactive',
                       short='A file with many texts to continue, one a line')
  length: int = field(500, 'Tokens to write.', minimum=1, short='Tokens to write')
  temperature: float = field(0.8, '1 samples from the distribution that the model predicts, lower values are more '
                             'careful, 0 always takes the most likely token.', minimum=0.0,
                             short='1 is the predicted distribution, lower is more careful, 0 is greedy')
  top_k: int = field(0, 'Sample among the k most likely tokens only; 0 samples among all.', minimum=0,
                     maximum=2**63 - 1, short='Sample among the k most likely tokens only; 0 is all')
  top_p: float = field(1.0, 'Sample among the fewest tokens whose probabilities sum to this; 1 samples among all.',
                       above=0.0, maximum=1.0,
                       short='Sample among the fewest tokens with this probability; 1 is all')
  min_p: float = field(0.0, 'Sample only among tokens that are at least this share as likely as the most likely one; 0 '
                       'samples among all, 1 takes the most likely.', minimum=0.0, maximum=1.0,
                       short='Sample among tokens at least this share as likely as the top one')
  repetition_penalty: float = field(1.0, 'Divides the probability of each token that is among the last '
                                    '--repetition_window ones; 1 is none.', minimum=1.0)
  repetition_window: int = field(64, 'Tokens, those of the prompt included, that --repetition_penalty looks back on.',
                                 minimum=1, maximum=4096, not_with='repetition_penalty=1|1.0')
  ban: tuple[str, ...] = field((), 'A text that is never written, such as a character or a word; may be given several '
                               'times.', escapes=True, short='A text that is never written')
  ban_unknown: bool = field(False, 'Never write the sign that stands for characters which the model does not know '
                            '(U+FFFD).')
  seed: int = field(0, 'The same seed writes the same text.', minimum=0, maximum=MOST_SEED,
                    short='The same seed writes the same text')
  num_samples: int = field(1, 'Texts to write for each prompt, side by side, each with its own random numbers.',
                           minimum=1, maximum=MOST_SAMPLES, short='Texts to write')
  best_of: int = field(1, 'Writes so many texts for each that is printed, and keeps the one that the model finds '
                       'likeliest, by the mean log-probability of its tokens.', minimum=1, maximum=1000,
                       not_with='interactive', short='Write so many for each text, and keep the likeliest')
  output: str = field('text', 'How texts are printed: text; jsonl, a JSON object a line with prompt, text, num_tokens, '
                      'log_prob (nats), sample, seed and finish_reason (stop or length); or json, one list of these.',
                      choices=['text', 'json', 'jsonl'], not_with='interactive',
                      short='text, jsonl (a JSON object for each text) or json (a list)')
  stop: tuple[str, ...] = field((), 'A text ends before this string, such as \\n for a line end; may be given several '
                                'times, and the first that turns up counts.', escapes=True,
                                short='A text ends before this string, such as \\n for a line end')
  interactive: bool = field(False, 'Ask for prompts at the terminal and answer them; the state carries on from one to '
                            'the next.', short='Ask for prompts at the terminal and answer them')
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  weights: str = field('best', 'Which weights: best (by validation loss) or last.', choices=['best', 'last'],
                       short='Which weights: best (by validation loss) or last')
  server: str = served.server()
  model: str = served.model()

  @property
  def window(self) -> int:
    """Tokens that are looked back on."""
    return self.repetition_window if self.repetition_penalty > 1 else 0

  def check_seeds(self, prompts: int) -> None:
    """Raises UserError where so many prompts, each with the next seed, come to one that --seed refuses."""
    if self.seed + prompts - 1 > MOST_SEED:
      raise UserError(f'--seed={self.seed}: expected at most {MOST_SEED - prompts + 1:,} with {prompts:,} prompts, '
                      f'which have this seed and the next ones, up to {MOST_SEED:,}')

  def check(self) -> None:
    if self.server:
      served.check(self, SERVED)
    typed.separate('stop', self.stop)
    typed.check_sought('ban', self.ban)
    if self.prompt and self.prompt_file:
      raise UserError(f'--prompt and --prompt_file={self.prompt_file}: expected one of the two')
    for name in ('prompt', 'prompt_file'):
      if self.prompts and getattr(self, name):
        raise UserError(f'--prompts={self.prompts} and --{name}={getattr(self, name)}: expected one of the two')
    if self.num_samples * self.best_of > MOST_SAMPLES:
      raise UserError(f'--best_of={self.best_of} with --num_samples={self.num_samples}: expected at most '
                      f'{MOST_SAMPLES:,} texts for a prompt, found {self.num_samples * self.best_of:,}')
    if self.interactive and self.num_samples > 1:
      raise UserError(f'--interactive with --num_samples={self.num_samples}: expected one sample at a time')
