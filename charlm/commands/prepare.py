"""charlm-prepare: tokens of a large corpus, made once."""
from typing import Any

from charlm.commands import console
from flags import typed
from flags.prepare import PrepareConfig


def main(given: dict[str, Any]) -> None:
  """makes the tokens of a large corpus, in shards, with several processes.

  charlm-prepare --corpus=texts/ --tokens_dir=tokens/mine
  charlm-train --corpus=tokens:tokens/mine --workdir=runs/mine

  The result does not depend on how many processes work. Where they are stopped, the same command
  goes on.
  """
  config = PrepareConfig(**given)
  from data_pipeline.beam import make, pipeline
  manifest = make.make(config, pipeline.Runner(config))
  print(f'{typed.line(config.tokens_dir)}: {manifest.account()}\n'
        f'  charlm-train {typed.flag("corpus", f"tokens:{config.tokens_dir}")}'
        + ' --document_reset' * config.document_reset)


run = console.command(main, PrepareConfig)

if __name__ == '__main__':
  run()
