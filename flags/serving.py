"""Flags of charlm-export."""
import dataclasses

from flags import typed
from flags.errors import UserError
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
  """What to export."""
  workdir: str = field('', 'Folder of the trained model.', path=True, short='Folder of the trained model')
  export_dir: str = field('', 'Folder of the export: with --format=savedmodel the one that TF Serving watches, and the '
                          'model goes to EXPORT_DIR/VERSION; with the others a new folder for the model itself.',
                          path=True, short='Folder of the export; a SavedModel goes to EXPORT_DIR/VERSION')
  format: str = field('savedmodel', 'What to write: savedmodel, for TF Serving and TensorFlow; safetensors, the '
                      'weights for any other library, with a program in NumPy that runs them; litert, a .tflite file '
                      'that reads a token at a time, for phones and small devices.',
                      choices=['savedmodel', 'safetensors', 'litert'],
                      short='What to write: savedmodel, safetensors (for any library) or litert')
  version: int = field(0, 'Version of the served model; 0 takes one more than the newest version there.', minimum=0,
                       maximum=2**63 - 1, only_with='format=savedmodel',
                       short='Version of the served model; 0 takes the next one')
  weights: str = field('best', 'Which weights: best (by validation loss) or last.', choices=['best', 'last'],
                       short='Which weights: best (by validation loss) or last')
  length: int = field(200, 'Tokens that serving_default writes, at most --max_new_tokens.', minimum=0,
                      only_with='format=savedmodel', not_with='text_ops=none',
                      short='Tokens that serving_default writes')
  temperature: float = field(0.8, 'Of serving_default, as in charlm-sample.', minimum=0.0,
                             only_with='format=savedmodel', not_with='text_ops=none',
                             short='Of serving_default, as in charlm-sample')
  top_k: int = field(0, 'Of serving_default, as in charlm-sample.', minimum=0, maximum=2**63 - 1,
                     only_with='format=savedmodel', not_with='text_ops=none')
  top_p: float = field(1.0, 'Of serving_default, as in charlm-sample.', above=0.0, maximum=1.0,
                       only_with='format=savedmodel', not_with='text_ops=none')
  seed: int = field(0, 'Of serving_default, which always writes the same text after the same prompt; generate takes a '
                    'seed with each row.', minimum=0, maximum=2**31 - 1, only_with='format=savedmodel',
                    not_with='text_ops=none')
  stop: tuple[str, ...] = field((), 'A served text ends before this string, such as \\n for a line end; may be given '
                                'several times, and the first that turns up counts.', escapes=True,
                                only_with='format=savedmodel',
                                short='A text ends before this string, such as \\n for a line end')
  max_new_tokens: int = field(4096, 'Most tokens that a row of one request writes; a request for more gets so many.',
                              minimum=1, maximum=2**24, only_with='format=savedmodel',
                              short='Most tokens that a row of a request writes')
  max_prompt_tokens: int = field(2**17, 'Most tokens of a prompt or text; a request with a longer one is refused.',
                                 minimum=1, maximum=2**24, only_with='format=savedmodel',
                                 short='Most tokens of a prompt or text')
  max_batch_tokens: int = field(2**18, 'Most tokens of one request, in all rows together, read and to be written; a '
                                'request for more is refused. It bounds the time and the memory of a request.',
                                minimum=16, maximum=2**24, only_with='format=savedmodel',
                                short='Most tokens of one request, in all rows together')
  text_ops: str = field('auto', 'How texts become tokens: auto, in the served model, which for SentencePiece takes a '
                        'server with TensorFlow Text; or none, the client sends token ids, to any server.',
                        choices=['auto', 'none'], only_with='format=savedmodel')

  @property
  def stop_texts(self) -> list[bytes]:
    """Those of --stop."""
    return [text.encode() for text in self.stop]

  def check(self) -> None:
    typed.separate('stop', self.stop)
    if self.max_batch_tokens <= self.max_new_tokens:
      raise UserError(f'--max_batch_tokens={self.max_batch_tokens}: expected more than '
                      f'--max_new_tokens={self.max_new_tokens}, for a prompt')
