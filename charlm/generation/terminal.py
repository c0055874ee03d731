"""Samples and answers on the terminal, printed as they are written. Imports no TensorFlow."""
import codecs
import contextlib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from charlm.generation.prompts import Prompt, encode_user_prompt
from charlm.generation.text_stream import TextStream
from data_pipeline.tokenizers.base import Tokenizer
from flags.errors import UserError
from flags.generation import SampleConfig

if TYPE_CHECKING:
  from charlm.generation.session import SessionState, TimedSession

SHOW_EVERY = 64  # tokens; the text does not depend on it


def show(text: str) -> None:
  """Prints text at once."""
  sys.stdout.write(text)
  sys.stdout.flush()


def write_samples(session: 'TimedSession', tokenizer: Tokenizer, config: SampleConfig, prompt: Prompt) -> None:
  """Prints texts that go on from the prompt: the first as it is written, the others after it.

  Args:
    session: of --num_samples texts.
    tokenizer: the model's.
    config: what to write.
    prompt: is printed at the start of each text.
  """
  ids = encode_user_prompt(tokenizer, prompt)
  texts = [TextStream(tokenizer, config.stop, prompt.text) for _ in range(config.num_samples)]
  first, *others = [Printed(text, f'==> sample {i} of {len(texts)} <==\n' if len(texts) > 1 else '')
                    for i, text in enumerate(texts, 1)]
  first.show()
  state, left = session.read([ids]), config.length
  while left and not all(text.stopped for text in texts):
    tokens, _, state = session.write(min(SHOW_EVERY, left), state)
    left -= tokens.shape[1]
    for printed, row in zip((first, *others), tokens, strict=True):
      printed.add(printed.text.push(row))
    first.show()
  for printed in (first, *others):
    printed.add(printed.text.end())
    printed.end()
    printed.show()


class Printed:
  """What is to be printed of a text, which is held back until it is shown.

  Attributes:
    text: the TextStream that it comes from.
  """

  def __init__(self, text: TextStream, title: str):
    self.text, self._parts, self._last = text, [title, text.prompt_text], text.prompt_text[-1:] or title[-1:]

  def add(self, new: str) -> None:
    """Takes in what follows."""
    self._parts.append(new)
    self._last = new[-1:] or self._last

  def end(self) -> None:
    """Ends the last line, if that has no end."""
    self.add('\n' * (self._last != '\n'))

  def show(self) -> None:
    """Prints what has come since it was last shown."""
    show(''.join(self._parts))
    self._parts = []


def interact(session: 'TimedSession', tokenizer: Tokenizer, config: SampleConfig, prompt: Prompt,
             lines: Iterable[bytes]) -> None:
  """Answers each line; the state is carried on from line to line. An empty line lets the model go on.

  A line that the tokenizer cannot read is reported on standard error and skipped.

  Args:
    session: of one text.
    tokenizer: the model's.
    config: what to write.
    prompt: is read, and printed, before the first line, unless it is empty.
    lines: what the user types.
  """
  state = None
  if prompt.text:
    state = session.read([encode_user_prompt(tokenizer, prompt)])
    show(TextStream(tokenizer, prompt=prompt.text).prompt_text + '\n')
  for line in lines:
    try:
      if line or state is None:
        state = session.read([encode_user_prompt(tokenizer, Prompt('this line', line))], state)
    except UserError as error:
      print(error, file=sys.stderr)
      continue
    with interruptible() as interrupted:
      state = answer(session, state, TextStream(tokenizer, config.stop), config.length, interrupted)
    show('\n')


def answer(session: 'TimedSession', state: 'SessionState', text: TextStream, length: int,
           interrupted: threading.Event) -> 'SessionState':
  """Prints an answer, token by token.

  Args:
    session: of one text.
    state: where its text stands.
    text: turns tokens into characters, and may stop the answer.
    length: tokens to write at most.
    interrupted: ends the answer once it is set.

  Returns:
    The state after the last token of the answer. If the answer was stopped, that is the last of the stop string.
  """
  while length and not text.stopped and not interrupted.is_set():
    before = state
    tokens, _, state = session.write(min(SHOW_EVERY, length), before)
    used = 0
    for token in tokens[0]:
      show(text.push([token]))
      used += 1
      if text.stopped:
        state = session.write(used, before).state  # the model must not have read on, past the stop string
        break
    length -= used
  show(text.end())
  return state


def typed_lines() -> Iterator[bytes]:
  """The lines that are typed at the terminal, or piped in. Ctrl-D ends them; Ctrl-C says so.

  Lines from a pipe or a file are UTF-8, or whatever bytes the model reads. They may end in CR LF and begin with a byte
  order mark, which are no part of them.
  """
  if not (sys.stdin.isatty() and sys.stdout.isatty()):
    first = True
    for piped in sys.stdin.buffer:
      yield (piped.removeprefix(codecs.BOM_UTF8) if first else piped).removesuffix(b'\n').removesuffix(b'\r')
      first = False
    return
  with contextlib.suppress(ImportError):
    import readline  # noqa: F401, gives input() history and editing
  while True:
    try:
      line = input('> ')
    except EOFError:
      return
    except KeyboardInterrupt:
      print('\nCtrl-D ends.', file=sys.stderr)
      continue
    yield line.encode('utf-8', 'surrogateescape')


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
  """-> an event that Ctrl-C sets, instead of raising KeyboardInterrupt."""
  event = threading.Event()
  before = signal.signal(signal.SIGINT, lambda *_: event.set())
  try:
    yield event
  finally:
    signal.signal(signal.SIGINT, before)
