"""charlm-sample: writes text with a trained model."""
import sys
from typing import Any

from charlm import client
from charlm.client import terminal as client_terminal
from charlm.commands import console
from charlm.generation import prompts, terminal
from charlm.workdir import layout
from flags.generation import SampleConfig


def main(given: dict[str, Any]) -> None:
  """writes text with a trained model.

  charlm-sample --workdir=runs/mine --prompt='Once upon a time'
  charlm-sample --server=http://localhost:8501 --model=mine --prompt='Once upon a time'

  The prompt is printed first, then what the model adds, as it is written. An empty prompt counts as
  a newline. With --num_samples=N, N texts are written side by side and printed one after the other,
  each under a line such as '==> sample 1 of 4 <=='. With --interactive, each line is read as a
  prompt and answered; Ctrl-C ends an answer, Ctrl-D the program. With --server a served model does
  the work, and TensorFlow is not needed here.
  """
  config = SampleConfig(**given)
  prompt = prompts.given_prompt(config)
  if config.server:
    with client.Client(config.server, model=config.model) as connection:
      if config.interactive:
        client_terminal.interact(connection, config, prompt.text, terminal.typed_lines())
      else:
        client_terminal.write_samples(connection, config, prompt.text)
    return
  layout.read_config(config.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.generation.random_streams import row_seeds
    from charlm.generation.session import Session, TimedSession, check_memory
    from charlm.workdir import trained_model
  opened = trained_model.load_model(config.workdir, config.weights, config.recurrence)
  check_memory(opened.model, config.num_samples, config.length)
  session = TimedSession(Session(opened.model, row_seeds(config.seed, config.num_samples),
                                 temperature=config.temperature, top_k=config.top_k, top_p=config.top_p))
  if config.interactive:
    terminal.interact(session, opened.tokenizer, config, prompt, terminal.typed_lines())
  else:
    terminal.write_samples(session, opened.tokenizer, config, prompt)
  if sys.stderr.isatty():
    print(session.summary(), file=sys.stderr)


run = console.command(main, SampleConfig)

if __name__ == '__main__':
  run()
