"""charlm-sample: writes text with a trained model."""
import codecs
import contextlib
import pathlib
import signal
import sys
import threading
import time

from charlm.commands import console
from charlm.workdir import layout
from flags.errors import UserError
from flags.generation import SampleConfig
from flags.schema import unescaped

SHOW_EVERY = 64  # tokens; the text does not depend on it
NAMED = 20  # unknown characters that a warning lists


def main(given):
  """writes text with a trained model.

  charlm-sample --workdir=runs/mine --prompt='Once upon a time'

  The prompt is printed first, then what the model adds, as it is written. An empty prompt counts as a
  newline. With --num_samples=N, N texts are written side by side and printed one after the other,
  each under a line such as '==> sample 1 of 4 <=='. With --interactive, each line is read as a prompt
  and answered; Ctrl-C ends an answer, Ctrl-D the program.
  """
  chosen = SampleConfig(**given)
  source, prompt = read_prompt(chosen)
  layout.read_config(chosen.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.generation import decoding
    from charlm.workdir import trained_model
  opened = trained_model.load_model(chosen.workdir, chosen.weights, chosen.recurrence)
  writer = Timed(decoding.Writer(opened.model, decoding.row_seeds(chosen.seed, chosen.num_samples),
                                 temperature=chosen.temperature, top_k=chosen.top_k,
                                 top_p=chosen.top_p))
  sys.stdout.reconfigure(errors='replace')
  if chosen.interactive:
    interact(writer, opened.tokenizer, chosen, source, prompt, typed_lines())
  else:
    write_samples(writer, opened.tokenizer, chosen, source, prompt)
  if sys.stderr.isatty():
    print(writer.summary(), file=sys.stderr)


def read_prompt(chosen):
  """-> where the prompt came from, in words, and the prompt in bytes. Raises UserError."""
  if not chosen.prompt_file:
    return '--prompt', chosen.prompt.encode('utf-8', 'surrogateescape')
  source = f'--prompt_file={chosen.prompt_file}'
  try:
    prompt = pathlib.Path(chosen.prompt_file).read_bytes()
  except OSError as error:
    raise UserError(f'{source}: expected a file that can be read ({error.strerror})') from error
  if not prompt:
    raise UserError(f'{source}: is empty; expected text to go on from. Leave the flag out to start afresh')
  return source, prompt


def typed_lines():
  """The lines that are typed at the terminal, or piped in, in bytes."""
  terminal = sys.stdin.isatty() and sys.stdout.isatty()
  if terminal:
    with contextlib.suppress(ImportError):
      import readline  # noqa: F401, gives input() history and editing
  else:
    sys.stdin.reconfigure(errors='surrogateescape')
  while True:
    try:
      line = input('> ' if terminal else '')
    except EOFError:
      return
    except KeyboardInterrupt:
      if not terminal:
        raise
      print('\nCtrl-D ends.', file=sys.stderr)
      continue
    yield line.encode('utf-8', 'surrogateescape')


def encode(tokenizer, source, prompt):
  """prompt bytes -> ids [N]. Warns of characters that the model does not know. Raises UserError."""
  from charlm.generation import decoding
  from data_pipeline.tokenizers.base import InvalidText
  try:
    ids = decoding.encode_prompt(tokenizer, prompt)
  except InvalidText as error:
    raise UserError(f'{source}: byte 0x{error.byte:02x} at offset {error.offset} is not UTF-8: expected UTF-8, '
                    f'which the {tokenizer.kind} tokenizer of this model reads') from error
  unknown = [c for c in sorted(set(prompt.decode('utf-8', 'ignore')))
             if tokenizer.decode(tokenizer.encode(c)) != c.encode()]
  if unknown:
    more = f' and {len(unknown) - NAMED} more' if len(unknown) > NAMED else ''
    named = ' '.join(map(repr, unknown[:NAMED]))
    print(f'warning: {source}: the model has never seen {named}{more}', file=sys.stderr)
  return ids


class Text:
  """Tokens to characters, as they come: no character is torn, and nothing from the stop string on gets out.

  `stopped` is set once the stop string has turned up.
  """

  def __init__(self, tokenizer, stop='', prompt=b''):
    """prompt: bytes that the text goes on from; they may end within a character. `opening` is their text."""
    self.stopped = False
    self._tokenizer, self._stop, self._held = tokenizer, stop, ''
    self._decode = codecs.getincrementaldecoder('utf-8')('replace').decode
    self.opening = self._decode(prompt)

  def push(self, ids):
    """ids [N] -> str, what is now certain to be part of the text."""
    if self.stopped:
      return ''
    text = self._held + self._decode(self._tokenizer.decode(ids))
    before, found, _ = text.partition(self._stop) if self._stop else (text, '', '')
    self.stopped = bool(found)
    held = 0 if found else self._begun(text)
    self._held = text[len(text) - held:]
    return before[:len(before) - held]

  def _begun(self, text):
    """The most characters at the end of `text` that may turn out to begin the stop string."""
    return max(n for n in range(len(self._stop) or 1) if text.endswith(self._stop[:n]))

  def end(self):
    """-> str, what was held back. A character that the last token left unfinished is left out."""
    return '' if self.stopped else self._held


class Timed:
  """A writer that knows its speed. The first call, which compiles, does not count."""

  def __init__(self, writer):
    self.read, self._writer = writer.read, writer
    self._times = []  # of each call: tokens, seconds

  def write(self, length, context):
    began = time.perf_counter()
    tokens, context = self._writer.write(length, context)
    self._times.append((tokens.size, time.perf_counter() - began))
    return tokens, context

  def summary(self):
    tokens, seconds = (sum(column) for column in zip(*(self._times[1:] or [(0, 0)]), strict=True))
    speed = f', {tokens / seconds:,.0f} per second' if seconds else ''
    return f'{sum(n for n, _ in self._times):,} tokens{speed}'


def show(text):
  sys.stdout.write(text)
  sys.stdout.flush()


def write_samples(writer, tokenizer, chosen, source, prompt):
  """Prints texts that go on from the prompt: the first as it is written, the others after it."""
  ids = encode(tokenizer, source, prompt)
  stop = unescaped(chosen.stop)
  texts = [Text(tokenizer, stop, prompt) for _ in range(chosen.num_samples)]
  titles = [f'==> sample {i} of {len(texts)} <==\n' if len(texts) > 1 else '' for i in range(1, len(texts) + 1)]
  printed = [title + text.opening for title, text in zip(titles, texts, strict=True)]
  show(printed[0])
  context, left = writer.read(ids), chosen.length
  while left and not all(text.stopped for text in texts):
    tokens, context = writer.write(min(SHOW_EVERY, left), context)
    left -= tokens.shape[1]
    new = [text.push(row) for text, row in zip(texts, tokens, strict=True)]
    printed = [before + after for before, after in zip(printed, new, strict=True)]
    show(new[0])
  ends = [text.end() for text in texts]
  ends = [end if (before + end).endswith('\n') else end + '\n' for before, end in zip(printed, ends, strict=True)]
  show(ends[0] + ''.join(before + end for before, end in zip(printed[1:], ends[1:], strict=True)))


def interact(writer, tokenizer, chosen, source, prompt, lines):
  """Answers each line, the state carried on. An empty line lets the model go on."""
  context = None
  if prompt:
    context = writer.read(encode(tokenizer, source, prompt))
    show(Text(tokenizer, prompt=prompt).opening + '\n')
  for line in lines:
    try:
      if line or context is None:
        context = writer.read(encode(tokenizer, 'this line', line), context)
    except UserError as error:
      print(error, file=sys.stderr)
      continue
    with interruptible() as interrupted:
      context = answer(writer, context, Text(tokenizer, unescaped(chosen.stop)), chosen.length, interrupted)
    show('\n')


def answer(writer, context, text, length, interrupted):
  """Prints up to `length` tokens -> Context after the last token that was looked at, of the stop string at most."""
  while length and not text.stopped and not interrupted.is_set():
    before = context
    tokens, context = writer.write(min(SHOW_EVERY, length), before)
    used = 0
    for token in tokens[0]:
      show(text.push([token]))
      used += 1
      if text.stopped:
        _, context = writer.write(used, before)  # the model shall not have read on, past the stop string
        break
    length -= used
  show(text.end())
  return context


@contextlib.contextmanager
def interruptible():
  """-> an event that Ctrl-C sets, instead of raising KeyboardInterrupt."""
  event = threading.Event()
  before = signal.signal(signal.SIGINT, lambda *_: event.set())
  try:
    yield event
  finally:
    signal.signal(signal.SIGINT, before)


run = console.command(main, SampleConfig)

if __name__ == '__main__':
  run()
