"""charlm-evaluate: says how likely a text is."""
import dataclasses
import json

from charlm import workdir
from charlm.config import EvaluateConfig, UserError, read_config
from flags import define


def main(given):
  """says how likely a text is under a trained model, as one JSON object.

  charlm-evaluate --workdir=runs/mine                          the validation split
  charlm-evaluate --workdir=runs/mine --corpus=other.txt       another text, whole

  Every token counts once; the result depends neither on the rows nor on the chunk length (but for --dynamic, and for
  what luck does to --mc_dropout and --free_running).
  """
  config = EvaluateConfig(**given)
  read_config(config.workdir)
  with define.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm import evaluation
    from data_pipeline import prepare
  opened = workdir.open_model(config.workdir, config.weights)
  opened.config.data.check_recurrence(config.recurrence)
  data = choose_data(config, opened.config.data)
  split = config.split or ('all' if config.corpus and not config.corpus.startswith('tfds:') else 'valid')
  _, files = prepare.prepare(data, opened.tokenizer)
  file = files.get('train' if split == 'all' else split)
  if split == 'all' and file.num_tokens < 2:
    raise UserError(f'--corpus={data.corpus}: expected at least 2 tokens to evaluate, found {file.num_tokens}')
  if file is None or file.num_tokens < 2:
    raise UserError(f'--split={split}: --corpus={data.corpus} has too little text there; expected one of '
                    f'{", ".join(files)}')
  workdir.warn_of_unknown(data.corpus, [file])
  scorer, how = make_scorer(config, opened)
  sums = evaluation.evaluate_file(scorer, file, batch_size=config.batch_size or int(config.dynamic),
                                  length=config.dynamic_length if config.dynamic else config.chunk_length,
                                  bar=evaluation.progress_bar)
  if config.free_running:
    how |= run_freely(config, opened.model, file)
  print(json.dumps({**evaluation.report(sums, file), 'corpus': data.corpus, 'split': split,
                    'workdir': config.workdir, 'weights': config.weights, 'step': opened.state['step'], **how}))


def make_scorer(config, opened):
  """-> what scores batches (a Learner, or what stands in for one), and what to say of it beside the figures."""
  from charlm import dynamic, evaluation, learner, mc_dropout
  if config.mc_dropout:
    if not opened.config.model.drops:
      raise UserError(f'--mc_dropout={config.mc_dropout}: --workdir={config.workdir} was trained without dropout; '
                      'expected a model that was trained with --dropout, --recurrent_dropout or --zoneout')
    scorer = mc_dropout.McDropout(opened.model, passes=config.mc_dropout, seed=config.seed,
                                  recurrence=config.recurrence)
    return scorer, {'mc_dropout': config.mc_dropout, 'seed': config.seed}
  if config.dynamic:
    file = training_file(opened)
    rows = max(1, min(dynamic.ROWS, (file.num_tokens - 1) // config.dynamic_length))
    scorer = dynamic.Dynamic(opened.model, learning_rate=config.dynamic_learning_rate, decay=config.dynamic_decay,
                             recurrence=config.recurrence)
    batches, steps = evaluation.training_batches(file, rows, config.dynamic_length, config.dynamic_statistics)
    scorer.gather(evaluation.progress_bar(batches, steps), rows)
    return scorer, {'dynamic': {'learning_rate': config.dynamic_learning_rate, 'decay': config.dynamic_decay,
                                'length': config.dynamic_length, 'rows': config.batch_size or 1,
                                'statistics_tokens': steps * rows * config.dynamic_length}}
  return learner.Learner(opened.model, strategy=learner.make_strategy('default'), recurrence=config.recurrence), {}


def run_freely(config, model, file):
  """-> what --free_running adds to the figures. Raises UserError where the text is too short for it."""
  from charlm import evaluation, free_running
  sums = free_running.evaluate_file(model, file, config.free_running, seed=config.seed, batch_size=config.batch_size,
                                    length=config.chunk_length, recurrence=config.recurrence,
                                    bar=evaluation.progress_bar)
  if not sums['stretches']:
    raise UserError(f'--free_running={config.free_running}: the text has no stretch of so many tokens without the '
                    'start of a document; expected fewer')
  return {'free_running_nats_per_token': [nats / sums['stretches'] for nats in sums['nats']],
          'free_running_stretches': sums['stretches'], 'seed': config.seed}


def training_file(opened):
  """The TokenFile of the text that a model was trained on. Raises UserError where it is not as it was."""
  from data_pipeline import prepare
  try:
    _, files = prepare.prepare(opened.config.data, opened.tokenizer)
  except UserError as error:
    raise UserError(f'--dynamic: expected the text that the model was trained on, but {error}') from error
  if files['train'].content != opened.state['text']:
    raise UserError(f'--dynamic: expected the text that the model was trained on, but --corpus='
                    f'{opened.config.data.corpus} has changed since')
  return files['train']


def choose_data(config, trained):
  """The DataConfig to evaluate on: the one trained on, or another corpus cut in the same way, or not at all."""
  data, own_splits = trained, (config.corpus or trained.corpus).startswith('tfds:')
  if config.corpus:
    other = {} if own_splits else {'data_dir': '', 'text_feature': ''}
    data = dataclasses.replace(trained, corpus=config.corpus, **other)
  if config.split == 'all' and own_splits:
    raise UserError(f'--split=all with --corpus={data.corpus}: expected train, valid or test')
  if config.split == 'all' or (config.corpus and not config.split and not own_splits):
    data = dataclasses.replace(data, valid_fraction=0.0, test_fraction=0.0)
  return data


run = define.command(main, EvaluateConfig)

if __name__ == '__main__':
  run()
