"""charlm-evaluate: says how likely a text is."""
import dataclasses
import json
import os

from charlm.commands import console
from charlm.workdir import layout
from flags.data import is_path
from flags.errors import UserError
from flags.evaluation import EvaluateConfig


def main(given):
  """says how likely a text is under a trained model, as one JSON object.

  charlm-evaluate --workdir=runs/mine                          the validation split
  charlm-evaluate --workdir=runs/mine --corpus=other.txt       another text, whole

  Every token counts once. The result depends neither on --batch_size nor on --chunk_length, except
  with --dynamic and, by chance, with --mc_dropout and --free_running.
  """
  config = EvaluateConfig(**given)
  layout.read_config(config.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.evaluation import scoring
    from charlm.workdir import trained_model
    from data_pipeline import prepare
  opened = trained_model.load_model(config.workdir, config.weights, config.recurrence)
  opened.config.data.check_recurrence(config.recurrence)
  data, split = choose_data(config, opened.config.data)
  _, files = prepare.prepare(data, opened.tokenizer)
  file = files.get('train' if split == 'all' else split)
  if split == 'all' and file.num_tokens < 2:
    raise UserError(f'--corpus={data.corpus}: expected at least 2 tokens to evaluate, found {file.num_tokens}')
  if split == 'test' and file is None and data == opened.config.data and not data.test_fraction:
    raise UserError(f'--split=test: --workdir={config.workdir} was trained with --test_fraction=0, so that no text was '
                    'kept for it; expected another split, or --corpus')
  if file is None or file.num_tokens < 2:
    raise UserError(f'--split={split}: --corpus={data.corpus} has too little text there; expected one of '
                    f'{", ".join(files)}')
  if config.free_running >= file.num_tokens:
    raise _too_short(config, f'{file.num_tokens:,} tokens')
  prepare.warn_of_unknown(data.corpus, [file])
  nats, tokens, how = score(config, opened, file)
  if config.free_running:
    how |= run_freely(config, opened.model, file)
  print(json.dumps({**scoring.report(nats, tokens, file), 'corpus': data.corpus, 'split': split,
                    'workdir': config.workdir, 'weights': config.weights, 'step': opened.state['step'], **how}))


def score(config, opened, file):
  """Scores a TokenFile as the flags say -> nats (sum), tokens (count), and what to say beside the figures."""
  from charlm.evaluation import dynamic, mc_dropout, scoring
  options = {'batch_size': config.batch_size, 'length': config.chunk_length, 'progress': scoring.progress_bar}
  if config.dynamic:
    scorer, how = make_dynamic_scorer(config, opened, file)
    options |= {'batch_size': config.batch_size or 1, 'length': config.dynamic_length}
    return *dynamic.score_file(scorer, file, **options), how
  if not config.mc_dropout:
    return *scoring.score_file(scoring.PlainScorer(opened.model), file, **options), {}
  if not opened.config.model.drops:
    raise UserError(f'--mc_dropout={config.mc_dropout}: --workdir={config.workdir} was trained without dropout; '
                    'expected a model that was trained with --dropout, --recurrent_dropout or --zoneout')
  scorer = mc_dropout.McDropoutScorer(opened.model, passes=config.mc_dropout, seed=config.seed)
  return *scoring.score_file(scorer, file, **options), {'mc_dropout': config.mc_dropout, 'seed': config.seed}


def make_dynamic_scorer(config, opened, file):
  """-> a DynamicScorer that has gone over the text trained on, and what to say of it beside the figures."""
  from charlm.evaluation import dynamic, scoring
  trained = training_file(opened, config.corpus)
  length, trained_length = (min(config.dynamic_length, f.num_tokens - 1) for f in (file, trained))
  rows = max(1, min(dynamic.ROWS, (trained.num_tokens - 1) // trained_length))
  scorer = dynamic.DynamicScorer(opened.model, learning_rate=config.dynamic_learning_rate, decay=config.dynamic_decay)
  batches, steps = dynamic.training_batches(trained, rows, trained_length, config.dynamic_statistics)
  scorer.gather(scoring.progress_bar(batches, steps), rows)
  return scorer, {'dynamic': {'learning_rate': scorer.learning_rate, 'decay': config.dynamic_decay, 'length': length,
                              'rows': scoring.rows_of(file, config.batch_size or 1, length).batch_size,
                              'statistics_tokens': steps * rows * trained_length}}


def run_freely(config, model, file):
  """-> what --free_running adds to the figures. Raises UserError where the text is too short for it."""
  from charlm.evaluation import free_running, scoring
  nats, stretches = free_running.score_file(model, file, config.free_running, seed=config.seed,
                                            batch_size=config.batch_size, length=config.chunk_length,
                                            progress=scoring.progress_bar)
  if not stretches:
    raise _too_short(config, 'no stretch of so many tokens without the start of a document')
  return {'free_running_nats_per_token': (nats / stretches).tolist(), 'free_running_stretches': stretches,
          'seed': config.seed}


def _too_short(config, what):
  return UserError(f'--free_running={config.free_running}: the text has {what}; expected fewer')


def training_file(opened, corpus=''):
  """The TokenFile of the text that a model was trained on; corpus: another name under which it may be found.

  Raises UserError where it is not there, or not as it was.
  """
  from data_pipeline import prepare
  data, problem = opened.config.data, None
  for name in filter(None, (data.corpus, corpus)):
    try:
      _, files = prepare.prepare(dataclasses.replace(data, corpus=name), opened.tokenizer)
    except UserError as error:
      problem = problem or error
      continue
    if files['train'].content == opened.state['text']:
      return files['train']
    problem = problem or f'--corpus={name} has changed since'
  raise UserError(f'--dynamic: expected the text that the model was trained on, but {problem}')


def choose_data(config, trained):
  """-> the DataConfig to evaluate on, which is the one trained on, or another corpus cut in the same way or not at all;
  and the split of it."""
  if not config.corpus or _same_place(config.corpus, trained.corpus):
    data, split = trained, config.split or 'valid'
  else:
    other = {} if config.corpus.startswith('tfds:') else {'data_dir': '', 'text_feature': ''}
    data = dataclasses.replace(trained, corpus=config.corpus, **other)
    split = config.split or ('valid' if data.corpus.startswith('tfds:') else 'all')
  if split == 'all' and data.corpus.startswith('tfds:'):
    raise UserError(f'--split=all with --corpus={data.corpus}: expected train, valid or test')
  if split == 'all':
    data = dataclasses.replace(data, valid_fraction=0.0, test_fraction=0.0)
  return data, split


def _same_place(one, other):
  return one == other or (is_path(one) and is_path(other)
                          and len({os.path.abspath(os.path.expanduser(name)) for name in (one, other)}) == 1)


run = console.command(main, EvaluateConfig)

if __name__ == '__main__':
  run()
