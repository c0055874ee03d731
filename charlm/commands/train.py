"""charlm-train: trains a language model on a text."""
import dataclasses
import pathlib
import sys
import time

from charlm.training import resume, summary
from charlm.workdir import checkpoint, layout
from flags import parse
from flags.data import DataConfig, is_path
from flags.errors import UserError
from flags.network import ModelConfig
from flags.run import RunConfig
from flags.training import TrainConfig

SAMPLE_TOKENS = 400  # of the samples that are written while training


def main(given):
  """trains a language model on a text.

  charlm-train --corpus=my.txt --workdir=runs/mine --max_minutes=10

  Ctrl-C saves; the same command goes on. The folder then holds the checkpoints, metrics.jsonl, plot.png, samples
  and TensorBoard events. See also charlm-evaluate, charlm-sample and charlm-export.
  """
  started = time.perf_counter()
  run_config = RunConfig(**{f.name: given[f.name] for f in dataclasses.fields(RunConfig) if f.name in given})
  folder = run_config.workdir
  config = resume.choose_config(folder, given)
  text = config.data.corpus
  if is_path(text) and pathlib.Path(text).expanduser().resolve() == pathlib.Path(folder).resolve():
    raise UserError(f'--workdir={folder}: is the --corpus, too; expected a folder of its own')
  with parse.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.generation import decoding
    from charlm.network import native
    from charlm.training import optimizer, trainer
    from charlm.workdir import trained_model
    from data_pipeline import prepare, streams, tokenizers
  optimizer.choose_optimizer(config.train)  # which Keras knows, and the dataclasses do not
  if not config.data.document_reset:
    native.leave_threads(run_config.recurrence, config.model)
  if not given.keys() & {'corpus', 'preset'} and not layout.config_path(folder).exists():
    print(f'notice: --corpus was left out: this learns {config.data.corpus}, the language reference of Python',
          file=sys.stderr)
  resumes, tokenizer, weights = layout.has_checkpoint(folder), None, None
  if config.train.init_from and not checkpoint.saved(folder):  # evaluated, perhaps, but nothing to go on from yet
    _, tokenizer, weights, _ = trained_model.load_weights(
      config.train.init_from, config.train.init_weights, 'init_from')
  if resumes:
    tokenizer = tokenizers.load_tokenizer(folder)
  tokenizer, files = prepare.prepare(config.data, tokenizer)
  if config.train.init_from:
    prepare.warn_of_unknown(config.data.corpus, files.values())
  if not resumes:
    config = fitted(config, given, files, tokenizer.vocab_size)
  streams.check_fits(config.data, files)
  run_ = trainer.Trainer(config, folder, files['train'], files.get('valid'),
                         checkpoint.identity(tokenizer, files), started=started, profile=run_config.profile,
                         recurrence=run_config.recurrence, weights=weights,
                         write_sample=decoding.sample_writer(tokenizer, length=SAMPLE_TOKENS, temperature=0.8))
  with layout.lock(folder):  # nothing is written before all is known to fit together
    if resumes:
      layout.set_best_aside(folder)
      layout.update_config(folder, config)
    else:
      layout.save_config(folder, config, tokenizer)
    run_.run()
  print(summary.summarize(folder, run_.state, config.train.average))


def fitted(config, given, files, vocab_size):
  """The configuration with what fits the text and the time; says on standard error what that is."""
  from charlm.network import native
  from charlm.training import autoconfig, learner
  tokens = [files[split].num_tokens if split in files else 0 for split in ('train', 'valid')]
  threads, replicas = native.threads(), learner.make_strategy(config.train.strategy).num_replicas_in_sync
  chosen = autoconfig.fit(config, given, *tokens, vocab_size, threads=threads, replicas=replicas)
  if chosen:
    flags = ' '.join(f'--{name}={value}' for name, value in chosen.items())
    print(f'notice: to fit {tokens[0]:,} tokens, {config.train.max_minutes:g} minutes and {threads} cores: {flags}',
          file=sys.stderr)
  config, data = config.replace(chosen), config.data
  seconds, share = autoconfig.evaluation_seconds(config, tokens[1], vocab_size, threads), data.valid_fraction
  if share and seconds > 15 * config.train.max_minutes > 0:
    print(f'notice: the validation split of {tokens[1]:,} tokens takes about {seconds / 60:.0f} minutes to evaluate; '
          f'--valid_fraction={share * 3 * config.train.max_minutes / seconds:.1g} would take less', file=sys.stderr)
  return config


run = parse.command(main, RunConfig, DataConfig, ModelConfig, TrainConfig)

if __name__ == '__main__':
  run()
