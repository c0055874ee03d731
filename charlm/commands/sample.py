"""charlm-sample: writes text with a trained model."""
import sys
from typing import Any

from charlm import client
from charlm.client import terminal as client_terminal
from charlm.commands import console
from charlm.generation import conversation, keyboard, prompt_list, prompts, terminal
from charlm.workdir import layout
from flags.generation import SampleConfig


def main(given: dict[str, Any]) -> None:
  """writes text with a trained model.

  charlm-sample --workdir=runs/mine --prompt='Once upon a time'
  charlm-sample --workdir=runs/mine --prompts=prompts.txt --output=jsonl
  charlm-sample --server=http://localhost:8501 --model=mine --prompt='Once upon a time'

  The prompt is printed first, then what the model adds, as it is written. An empty prompt counts as
  a newline. With --num_samples=N, N texts are written side by side and printed one after the other,
  each under a line such as '==> sample 1 of 4 <=='. With --prompts, many prompts are written side by
  side; the seed of the first is --seed, the others have the next ones. With --interactive, each line
  is read as a prompt and answered; :help lists the commands, such as :temperature 0.5 and :undo.
  Ctrl-C ends an answer, Ctrl-D the program. With --server a served model does the work, and
  TensorFlow is not needed here.
  """
  config = SampleConfig(**given)
  prompt = prompts.given_prompt(config)
  if config.server:
    write_remotely(config, prompt)
  else:
    write(config, prompt)


def write_remotely(config: SampleConfig, prompt: prompts.Prompt) -> None:
  """Has a server write."""
  with client.Client(config.server, model=config.model) as connection:
    if config.interactive:
      conversation.interact(client_terminal.ServerWriter(connection), config, prompt, keyboard.typed_lines())
    else:
      client_terminal.write_samples(connection, config, prompt.text)


def write(config: SampleConfig, prompt: prompts.Prompt) -> None:
  """Writes with the model of a workdir."""
  items = prompt_list.read_list(config.prompts) if config.prompts else [prompt_list.Item(prompt, {})]
  config.check_seeds(len(items))
  layout.read_config(config.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.generation.random_streams import row_seeds
    from charlm.generation.session import TimedSession, check_memory
    from charlm.interface import records
    from charlm.interface.model import Model
    from charlm.workdir import trained_model
  model = Model(trained_model.load_model(config.workdir, config.weights, config.recurrence))
  if config.prompts or config.output != 'text' or config.best_of > 1:
    prompt_list.check(items, f'--prompts={config.prompts}' if config.prompts else prompt.source, model.tokenizer)
    records.write(model, config, items)
    return
  check_memory(model.opened.model, config.num_samples, config.length, config.window)
  session = TimedSession(model.session(config, row_seeds(config.seed, config.num_samples)))
  if config.interactive:
    writer = conversation.SessionWriter(session, model.tokenizer)
    conversation.interact(writer, config, prompt, keyboard.typed_lines())
  else:
    terminal.write_samples(session, model.tokenizer, config, prompt)
  if sys.stderr.isatty():
    print(session.summary(), file=sys.stderr)


run = console.command(main, SampleConfig)

if __name__ == '__main__':
  run()
