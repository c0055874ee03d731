"""charlm-sample: writes text with a trained model."""
import sys
from typing import Any

from charlm.commands import console
from charlm.generation import conversation, keyboard, prompts, terminal
from charlm.workdir import layout
from flags.generation import SampleConfig


def main(given: dict[str, Any]) -> None:
  """writes text with a trained model.

  charlm-sample --workdir=runs/mine --prompt='Once upon a time'

  The prompt is printed first, then what the model adds, as it is written. An empty prompt counts as
  a newline. With --num_samples=N, N texts are written side by side and printed one after the other,
  each under a line such as '==> sample 1 of 4 <=='. With --interactive, each line is read as a
  prompt and answered; :help lists the commands, such as :temperature 0.5 and :undo. Ctrl-C ends an
  answer, Ctrl-D the program.
  """
  config = SampleConfig(**given)
  prompt = prompts.given_prompt(config)
  layout.read_config(config.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.generation.constraints import Constraints
    from charlm.generation.random_streams import row_seeds
    from charlm.generation.session import Session, TimedSession, check_memory
    from charlm.workdir import trained_model
  opened = trained_model.load_model(config.workdir, config.weights, config.recurrence)
  constraints = Constraints(opened.tokenizer, repetition_penalty=config.repetition_penalty,
                            repetition_window=config.repetition_window, ban=config.ban, ban_unknown=config.ban_unknown)
  check_memory(opened.model, config.num_samples, config.length, constraints.window)
  session = TimedSession(Session(opened.model, row_seeds(config.seed, config.num_samples), constraints=constraints,
                                 temperature=config.temperature, top_k=config.top_k, top_p=config.top_p,
                                 min_p=config.min_p))
  if config.interactive:
    conversation.interact(session, opened.tokenizer, config, prompt, keyboard.typed_lines())
  else:
    terminal.write_samples(session, opened.tokenizer, config, prompt)
  if sys.stderr.isatty():
    print(session.summary(), file=sys.stderr)


run = console.command(main, SampleConfig)

if __name__ == '__main__':
  run()
