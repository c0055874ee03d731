"""charlm-train: trains a language model on a text."""
import contextlib
import dataclasses
import io
import os
import sys
import time
from typing import Any, NamedTuple

from charlm.commands import console
from charlm.training import cluster, local_workers, resume, summary
from charlm.training.cluster import Cluster
from charlm.training.watchdog import Watchdog
from charlm.workdir import checkpoint, layout, lock, names, variables
from charlm.workdir.names import Folder
from flags.config import Config
from flags.data import DataConfig, is_path
from flags.errors import UserError
from flags.network import ModelConfig
from flags.places import Places
from flags.run import RunConfig
from flags.training import TrainConfig
from flags.typed import TOKENS

SAMPLE_TOKENS = 400  # of the samples that are written while training


def main(given: dict[str, Any]) -> None:
  """trains a language model on a text.

  charlm-train --corpus=my.txt --workdir=runs/mine --max_minutes=10

  Ctrl-C saves; the same command goes on. The folder then holds the checkpoints, metrics.jsonl,
  plot.png, samples and TensorBoard events. See also charlm-evaluate, -sample and -export.
  """
  started = time.perf_counter()
  run_config = RunConfig(**{f.name: given[f.name] for f in dataclasses.fields(RunConfig) if f.name in given})
  if run_config.local_workers:
    if status := train_in_local_workers(run_config, given):
      sys.exit(status)
    return
  config = choose_config(run_config.workdir, given)  # mistakes in the flags are told before there is a folder
  cluster_ = cluster.of_strategy(config.train.strategy)
  # What is read under the lock is what the run goes on from. Of several workers the chief alone writes.
  opened = lock.locked(run_config.workdir) if cluster_.is_chief else contextlib.nullcontext(run_config.workdir)
  with opened as workdir, Watchdog(run_config.worker_timeout if cluster_.count > 1 else 0, cluster_.index) as watchdog:
    trainer = make_trainer(workdir, given, run_config, started, cluster_, watchdog)
    trainer.train()
    if cluster_.is_chief:
      print(summary.summarize(workdir, trainer.state(), trainer.config.train.average))


def train_in_local_workers(run_config: RunConfig, given: dict[str, Any]) -> int:
  """Trains in processes of its own -> the exit status. What the flags alone say is told before there are any."""
  count = run_config.local_workers
  given = {name: value for name, value in given.items() if name != 'local_workers'}
  config = choose_config(run_config.workdir, given)
  if 'strategy' not in given and config.train.strategy != 'multi_worker':
    given['strategy'] = 'multi_worker'
    config = choose_config(run_config.workdir, given)
  if config.train.strategy != 'multi_worker':
    raise UserError(f'--local_workers={count} with --strategy={config.train.strategy}: expected multi_worker')
  if config.data.batch_size % count:
    raise UserError(f'--batch_size={config.data.batch_size}: expected a multiple of --local_workers={count}')
  return local_workers.run(count, given)


def choose_config(workdir: Folder, given: dict[str, Any]) -> Config:
  """What `resume` chooses. Refuses a workdir that is the corpus, because the run would learn what it has written."""
  config = resume.choose_config(workdir, given)
  corpus = config.data.corpus
  place = corpus.removeprefix(TOKENS)
  if (is_path(corpus) or place != corpus) and os.path.realpath(place) == os.path.realpath(workdir):
    raise UserError(f'--workdir={workdir}: is the --corpus, too; expected a folder of its own')
  return config


def make_trainer(workdir: Folder, given: dict[str, Any], run_config: RunConfig, started: float, cluster_: Cluster,
                 watchdog: Watchdog) -> Any:
  """A trainer that stands where the workdir's newest checkpoint does.

  Configuration and tokenizer are written, the first of all that is, once all fits together.
  """
  with console.quietly():  # TensorFlow takes seconds to import
    from charlm.generation import session
    from charlm.network.backend import choice
    from charlm.training import optimizer, trainer
    from charlm.training.budget import Budget
    from charlm.training.distribution import Distribution, make_strategy
    from charlm.training.workers import Workers
  config = choose_config(workdir, given)
  config.data.check_recurrence(run_config.recurrence)
  on_tpu = config.train.strategy == 'tpu'
  backend = choice.choose(run_config.recurrence, config.model, 'TPU' if on_tpu else '')
  choice.share_cores(backend, resets=config.data.document_reset)
  workers = Workers(cluster_, watchdog)
  with workers.failures():
    # Nothing may be computed before this.
    with workers.waiting():
      distribution = Distribution(make_strategy(config.train.strategy, cluster_, config.train.tpu), workers)
    optimizer.choose_optimizer(config.train)  # which Keras knows, and the dataclasses do not
    with watchdog.patient():  # a long text takes as long as it takes
      config, resumes, text = agree(workdir, config, given, run_config, distribution)
    with workers.waiting():
      learner = make_learner(config, text.tokenizer.vocab_size, backend, distribution, text.weights)
    run_ = trainer.Run(workdir, config, text.identity, run_config.profile, run_config.steps_per_call)
    write = None if on_tpu else session.sample_writer(text.tokenizer, length=SAMPLE_TOKENS, temperature=0.8)
    budget = Budget(config.train, text.files.get('valid'), started=started)
    one = trainer.Trainer(run_, text.files, learner, budget, write)
  if resumes and workers.is_chief:
    checkpoint.set_best_aside(workdir)
    layout.update_config(workdir, config)
  elif workers.is_chief:
    layout.save_config(workdir, config, text.tokenizer)
  return one


class Text(NamedTuple):
  """What a run reads."""
  tokenizer: Any
  files: dict[str, Any]  # {split: TokenFile}
  weights: Any  # to start from, if --init_from names some
  identity: dict[str, Any]  # what weights that are trained on it belong to


def agree(workdir: Folder, config: Config, given: dict[str, Any], run_config: RunConfig,
          distribution: Any) -> tuple[Config, bool, Text]:
  """Reads the text, first the chief of several workers, from which the others have the configuration.

  Returns:
    The configuration; whether the run goes on from a checkpoint; and the text, the same for all workers.
  """
  from charlm.training import checks
  from data_pipeline.rows import check_fits
  workers, resumes = distribution.workers, layout.has_checkpoint(workdir)

  def check(config: Config, text: Text) -> None:
    check_fits(config.data, text.files)
    checks.check(config, text.files, distribution.replicas, run_config.steps_per_call)

  if workers.is_chief:
    if not given.keys() & {'corpus', 'preset'} and not names.exists(layout.config_path(workdir)):
      print(f'notice: --corpus was left out: this learns {config.data.corpus}, the language reference of Python',
            file=sys.stderr)
    config, text = read_text(workdir, config, resumes)
    if not resumes:
      config = fitted(config, given, text.files, text.tokenizer.vocab_size, distribution.replicas)
    check(config, text)
  told = workers.of_chief(lambda: [config.to_json(), resumes, text.identity])
  if not workers.is_chief:
    config, resumes = resume.follow(Config.from_json(told[0]), given), told[1]
    with contextlib.redirect_stderr(io.StringIO()):  # the chief has said it
      config, text = read_text(workdir, config, resumes)
    check(config, text)
    checks.check_text(text.identity, told[2])
  if config.train.strategy == 'tpu' and config.train.tpu != 'local':
    for file in text.files.values():
      file.share()
  workers.exchange(None)  # all have read it
  return config, resumes, text


def read_text(folder: Folder, config: Config, resumes: bool) -> tuple[Config, Text]:
  """Finds and reads the text, which for a run that goes on is the same as before, wherever that is now.

  Returns:
    The configuration, which says where the text is; and the text.
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
  text = Text(tokenizer, files, weights, checkpoint.identity(tokenizer, files))
  return dataclasses.replace(config.replace(source.decided), places=places), text


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
