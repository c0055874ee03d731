"""charlm-sample: writes text with a trained model."""
import sys
from typing import Any

from charlm.commands import console
from charlm.generation import conversation, keyboard, prompt_list, prompts, terminal
from charlm.workdir import layout
from flags.generation import SampleConfig


def main(given: dict[str, Any]) -> None:
  """writes text with a trained model.

  charlm-sample --workdir=runs/mine --prompt='Once upon a time'
  charlm-sample --workdir=runs/mine --prompts=prompts.txt --output=jsonl

  The prompt is printed first, then what the model adds, as it is written. An empty prompt counts as
  a newline. With --num_samples=N, N texts are written side by side and printed one after the other,
  each under a line such as '==> sample 1 of 4 <=='. With --prompts, many prompts are written side by
  side; the seed of the first is --seed, the others have the next ones. With --interactive, each line
  is read as a prompt and answered; :help lists the commands, such as :temperature 0.5 and :undo.
  Ctrl-C ends an answer, Ctrl-D the program.
  """
  config = SampleConfig(**given)
  prompt = prompts.given_prompt(config)
  items = prompt_list.read_list(config.prompts) if config.prompts else [prompt_list.Item(prompt, {})]
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
    conversation.interact(session, model.tokenizer, config, prompt, keyboard.typed_lines())
  else:
    terminal.write_samples(session, model.tokenizer, config, prompt)
  if sys.stderr.isatty():
    print(session.summary(), file=sys.stderr)


run = console.command(main, SampleConfig)

if __name__ == '__main__':
  run()
