"""Prompts that are answered line by line, and the commands between them. Imports no TensorFlow.

A `Writer` reads and answers: the one here has a session, and `client.terminal` has one that asks a server.
"""
import codecs
import collections
import contextlib
import dataclasses
import difflib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from charlm.generation.prompts import Prompt, encode_user_prompt
from charlm.generation.terminal import SHOW_EVERY, show
from charlm.generation.text_stream import TextStream
from data_pipeline.tokenizers.base import Tokenizer
from flags import typed
from flags.errors import UserError
from flags.generation import SampleConfig
from flags.schema import KINDS, Texts

if TYPE_CHECKING:
  from charlm.generation.session import SessionState, TimedSession

COMPILED = ['top_k', 'top_p', 'min_p']  # settings that are compiled into what writes
SETTINGS = ['temperature', *COMPILED, 'length', 'stop', 'seed']  # flags that commands change
ACTIONS = {'reset': 'Begin again, after --prompt if there is one',
           'undo': 'Go back to before the last prompt and its answer, or the last :reset',
           'help': 'Print the commands, and the settings as they are now', 'quit': 'End, as Ctrl-D does'}
MOST_UNDONE = 100


class Writer(Protocol):
  """What reads and answers. A state is where the text stands: a tuple with a field `written`, tokens so far."""

  @property
  def settings(self) -> Sequence[str]:
    """Flags that commands change."""

  @property
  def told(self) -> tuple[type[Exception], ...]:
    """Errors that concern one line, UserError among them: they are told, and the next line is taken."""

  def read(self, prompt: Prompt, state: Any) -> Any:
    """Reads a text, after a state unless that is None -> the state then. Raises UserError if it is unreadable."""

  def answer(self, state: Any, config: SampleConfig) -> Any:
    """Prints an answer, which Ctrl-C ends -> the state after it."""

  def change(self, **options: Any) -> None:
    """Writes on with other options."""


def interact(writer: Writer, config: SampleConfig, prompt: Prompt, lines: Iterable[bytes]) -> None:
  """Answers each line, and does what commands say, until lines or a command end it.

  A line that cannot be read, or a wrong command, is reported on standard error and skipped.

  Args:
    writer: reads and answers.
    config: what to write.
    prompt: is read, and printed, before the first line, unless it is empty.
    lines: what the user types. One that begins with a colon is a command, one that begins with two is a text that
      begins with one.
  """
  conversation = Conversation(writer, config, prompt)
  for line in lines:
    try:
      if not line.startswith(b':') or line.startswith(b'::'):
        conversation.answer(line[line.startswith(b':'):])
      elif conversation.command(line[1:].decode('utf-8', 'surrogateescape')):
        return
    except writer.told as error:
      print(typed.line(str(error)), file=sys.stderr)


class Conversation:
  """A text of prompts and answers: its state is carried on from line to line."""

  def __init__(self, writer: Writer, config: SampleConfig, prompt: Prompt):
    """Arguments as of `interact`."""
    self._writer, self._config = writer, config
    self._first = None
    if prompt.text:
      self._first = writer.read(prompt, None)
      show(codecs.getincrementaldecoder('utf-8')('replace').decode(prompt.text) + '\n')
    self._state = self._first
    self._before: collections.deque[Any] = collections.deque(maxlen=MOST_UNDONE)

  def answer(self, line: bytes) -> None:
    """Reads a line and prints the answer. An empty line lets the model go on. Raises UserError if it is unreadable."""
    before = state = self._state
    if line or state is None:
      state = self._writer.read(Prompt('this line', line), state)
    self._state = self._writer.answer(state, self._config)
    self._before.append(before)
    show('\n')

  def command(self, line: str) -> bool:
    """Does what a command says, which comes without its colon -> whether that ends the conversation.

    Raises:
      UserError: there is no such command, or its value is wrong; nothing has changed then.
    """
    name, value = re.fullmatch(r'(\S*)\s?(.*)', line, re.DOTALL).groups()  # type: ignore[union-attr]
    if name in self._writer.settings:
      self._set(name, value)
    elif name in SETTINGS:
      raise UserError(f':{name}: cannot be changed here; :help lists what can')
    elif name not in ACTIONS:
      near = difflib.get_close_matches(name, [*self._writer.settings, *ACTIONS], 1)
      guess = f'Did you mean :{near[0]}?' if near else ':help lists them'
      raise UserError(f':{name}: no such command. {guess}; a text that begins with a colon is typed with two')
    elif value.strip():
      raise UserError(f':{line}: expected :{name} alone')
    elif name != 'quit':
      actions: dict[str, Callable[[], None]] = {'reset': self._reset, 'undo': self._undo, 'help': self._help}
      actions[name]()
    return name == 'quit'

  def _set(self, name: str, value: str) -> None:
    """Changes a setting; a stop text is one more, and an empty one takes them all away."""
    f = SampleConfig.__dataclass_fields__[name]
    if f.type == Texts:
      chosen: Any = (*self._config.stop, typed.unescaped(value)) if value else ()
    else:
      try:
        chosen = f.type(value)  # type: ignore[operator]
      except ValueError:
        raise UserError(f':{f"{name} {value}".strip()}: expected {KINDS[f.type]}') from None
    before = self._config
    try:
      self._config = dataclasses.replace(self._config, **{name: chosen})
    except UserError as error:
      raise UserError(str(error).replace(f'--{name}=', f':{name} ').replace(f'--{name}:', f':{name}:')) from error
    if name == 'temperature':
      self._writer.change(temperature=chosen)
    elif name in COMPILED and chosen != getattr(before, name):
      self._writer.change(**{option: getattr(self._config, option) for option in COMPILED})
    elif name == 'seed':
      self._writer.change(seeds=np.array([chosen], np.int64))
      self._state = self._state and self._state._replace(written=0 * self._state.written)

  def _reset(self) -> None:
    self._before.append(self._state)
    self._state = self._first

  def _undo(self) -> None:
    if not self._before:
      raise UserError(':undo: there is nothing to go back from')
    self._state = self._before.pop()

  def _help(self) -> None:
    """Prints the commands, on standard error, as standard output has texts alone."""
    fields = SampleConfig.__dataclass_fields__
    settings = self._writer.settings
    lines = [(f':{name} {getattr(self._config, name)}', fields[name].metadata['short']) for name in settings
             if name != 'stop']
    if 'stop' in settings:
      lines += [(':stop TEXT', 'End answers before this text, too; :stop alone, before none'),
                *(('', f'now {typed.escaped(text)}') for text in self._config.stop)]
    lines += [*((f':{name}', text) for name, text in ACTIONS.items()), ('::TEXT', 'A text that begins with one colon')]
    print('\n'.join(f'{command:18}{text}' for command, text in lines), file=sys.stderr)


class SessionWriter:
  """Reads and answers with a session of one text."""
  settings, told = SETTINGS, (UserError,)

  def __init__(self, session: 'TimedSession', tokenizer: Tokenizer):
    self._session, self._tokenizer, self.change = session, tokenizer, session.change

  def read(self, prompt: Prompt, state: 'SessionState | None') -> 'SessionState':
    """As `Writer.read`."""
    return self._session.read([encode_user_prompt(self._tokenizer, prompt)], state)

  def answer(self, state: 'SessionState', config: SampleConfig) -> 'SessionState':
    """As `Writer.answer`."""
    with interruptible() as interrupted:
      return answer(self._session, state, TextStream(self._tokenizer, config.stop), config.length, interrupted)


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
    The state after the last token of the answer. If the answer was stopped, that is the last of the stop text.
  """
  while length and not text.stopped and not interrupted.is_set():
    before = state
    tokens, _, state = session.write(min(SHOW_EVERY, length), before)
    used = 0
    for token in tokens[0]:
      show(text.push([token]))
      used += 1
      if text.stopped:
        session.drop(len(tokens[0]))
        state = session.write(used, before).state  # the model must not have read on, past the stop text
        break
    length -= used
  show(text.end())
  return state


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
  """-> an event that Ctrl-C sets, instead of raising KeyboardInterrupt."""
  event = threading.Event()
  before = signal.signal(signal.SIGINT, lambda *_: event.set())
  try:
    yield event
  finally:
    signal.signal(signal.SIGINT, before)
