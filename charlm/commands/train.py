"""charlm-train: trains a language model on a text."""
import dataclasses
import os
import sys
import time
from typing import Any

from charlm.commands import console
from charlm.training import resume, summary
from charlm.workdir import checkpoint, layout, lock, names, variables
from charlm.workdir.names import Folder
from flags.config import Config
from flags.data import DataConfig, is_path
from flags.errors import UserError
from flags.network import ModelConfig
from flags.places import Places
from flags.run import RunConfig
from flags.training import TrainConfig

SAMPLE_TOKENS = 400  # of the samples that are written while training


def main(given: dict[str, Any]) -> None:
  """trains a language model on a text.

  charlm-train --corpus=my.txt --workdir=runs/mine --max_minutes=10

  Ctrl-C saves; the same command goes on. The folder then holds the checkpoints, metrics.jsonl,
  plot.png, samples and TensorBoard events. See also charlm-evaluate, -sample and -export.
  """
  started = time.perf_counter()
  run_config = RunConfig(**{f.name: given[f.name] for f in dataclasses.fields(RunConfig) if f.name in given})
  choose_config(run_config.workdir, given)  # mistakes in the flags are told before there is a folder
  with lock.locked(run_config.workdir) as workdir:  # what is read from here on is what the run goes on from
    trainer = make_trainer(workdir, given, run_config, started)
    trainer.train()
    print(summary.summarize(workdir, trainer.state(), trainer.config.train.average))


def choose_config(workdir: Folder, given: dict[str, Any]) -> Config:
  """What `resume` chooses. Refuses a workdir that is the corpus, because the run would learn what it has written."""
  config = resume.choose_config(workdir, given)
  corpus = config.data.corpus
  if is_path(corpus) and os.path.realpath(corpus) == os.path.realpath(workdir):
    raise UserError(f'--workdir={workdir}: is the --corpus, too; expected a folder of its own')
  return config


def make_trainer(workdir: Folder, given: dict[str, Any], run_config: RunConfig, started: float) -> Any:
  """A trainer that stands where the workdir's newest checkpoint does.

  Configuration and tokenizer are written, the first of all that is, once all fits together.
  """
  with console.quietly():  # TensorFlow takes seconds to import
    from charlm.generation import session
    from charlm.network.backend import choice
    from charlm.training import checks, optimizer, trainer
    from charlm.training.budget import Budget
    from charlm.training.distribution import Distribution, make_strategy
    from data_pipeline.rows import check_fits
  config, resumes = choose_config(workdir, given), layout.has_checkpoint(workdir)
  optimizer.choose_optimizer(config.train)  # which Keras knows, and the dataclasses do not
  config.data.check_recurrence(run_config.recurrence)
  on_tpu = config.train.strategy == 'tpu'
  backend = choice.choose(run_config.recurrence, config.model, 'TPU' if on_tpu else '')
  choice.share_cores(backend, resets=config.data.document_reset)
  if not given.keys() & {'corpus', 'preset'} and not names.exists(layout.config_path(workdir)):
    print(f'notice: --corpus was left out: this learns {config.data.corpus}, the language reference of Python',
          file=sys.stderr)
  config, tokenizer, files, weights = read_text(workdir, config, resumes)
  distribution = Distribution(make_strategy(config.train.strategy, config.train.tpu))
  if not resumes:
    config = fitted(config, given, files, tokenizer.vocab_size, distribution.replicas)
  check_fits(config.data, files)
  checks.check(config, files, distribution.replicas, run_config.steps_per_call)
  learner = make_learner(config, tokenizer.vocab_size, backend, distribution, weights)
  run_ = trainer.Run(workdir, config, checkpoint.identity(tokenizer, files), run_config.profile,
                     run_config.steps_per_call)
  one = trainer.Trainer(run_, files, learner, Budget(config.train, files.get('valid'), started=started),
                        None if on_tpu else session.sample_writer(tokenizer, length=SAMPLE_TOKENS, temperature=0.8))
  if resumes:
    checkpoint.set_best_aside(workdir)
    layout.update_config(workdir, config)
  else:
    layout.save_config(workdir, config, tokenizer)
  return one


def read_text(folder: Folder, config: Config, resumes: bool) -> tuple[Config, Any, dict[str, Any], Any]:
  """Finds and reads the text, which for a run that goes on is the same as before, wherever that is now.

  Returns:
    The configuration, which says where the text is; the tokenizer; {split: TokenFile}; and the weights to start from,
    if --init_from names some.
  """
  from charlm.workdir import trained_model
  from data_pipeline import prepare
  from data_pipeline.tokenizers.registry import load_tokenizer
  tokenizer = weights = None
  if config.train.init_from and not checkpoint.saved(folder):  # evaluated, perhaps, but nothing to go on from yet
    opened = trained_model.load_weights(config.train.init_from, config.train.init_weights, 'init_from')
    tokenizer, weights = opened.tokenizer, opened.arrays
  if resumes:
    tokenizer = load_tokenizer(folder)
  if config.places.content:
    source = prepare.find(config.places.content, config.places.candidates(config.data, folder),
                          named=f'--workdir={folder}', remedy='Bring it back, or name where it is now: --corpus')
  else:
    source = prepare.open_source(config.data)
  tokenizer, files = prepare.tokenize(source, tokenizer)
  prepare.warn_of_unknown(config.data.corpus, files.values())
  places = Places.of(source.config, folder, source.content)
  return dataclasses.replace(config, places=places), tokenizer, files, weights


def make_learner(config: Config, vocab_size: int, backend: Any, distribution: Any, weights: Any) -> Any:
  """The model with its first weights, and what trains it. weights: arrays of a checkpoint, or None."""
  from charlm.network.model import LanguageModel
  from charlm.training.learner import Learner
  with distribution.strategy.scope():
    model = LanguageModel(config.model, vocab_size, seed=config.train.seed, backend=backend)
  if weights:
    variables.restore('model', model.variables, weights)
  return Learner(model, config.train, config.data, distribution)


def fitted(config: Config, given: dict[str, Any], files: dict[str, Any], vocab_size: int, replicas: int) -> Config:
  """The configuration with what fits the text and the time; says on standard error what that is."""
  from charlm.network import runtime
  from charlm.training import autoconfig
  tokens = [files[split].num_tokens if split in files else 0 for split in ('train', 'valid')]
  setting = autoconfig.Setting(tokens[0], tokens[1], vocab_size, runtime.threads(), replicas)
  chosen, minutes = autoconfig.choose(config, given, setting), config.train.max_minutes
  if chosen:
    flags = ' '.join(f'--{name}={value}' for name, value in chosen.items())
    print(f'notice: to fit {tokens[0]:,} tokens, {minutes:g} minutes and {setting.threads} cores: {flags}',
          file=sys.stderr)
  config, share = config.replace(chosen), config.data.valid_fraction
  seconds = autoconfig.evaluation_seconds(config, setting)
  if share and seconds > 15 * minutes > 0:
    print(f'notice: the validation split of {tokens[1]:,} tokens takes about {seconds / 60:.0f} minutes to evaluate; '
          f'--valid_fraction={share * 3 * minutes / seconds:.1g} would take less', file=sys.stderr)
  return config


run = console.command(main, RunConfig, DataConfig, ModelConfig, TrainConfig)

if __name__ == '__main__':
  run()
