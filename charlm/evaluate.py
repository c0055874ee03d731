"""charlm-evaluate: says how likely a text is."""
import dataclasses
import json
import sys

from charlm import workdir
from charlm.config import EvaluateConfig, UserError, read_config
from flags import define


def main(given):
  """says how likely a text is under a trained model, as one JSON object.

  charlm-evaluate --workdir=runs/mine                          the validation split
  charlm-evaluate --workdir=runs/mine --corpus=other.txt       another text, whole

  Every token counts once; the result depends neither on the rows nor on the chunk length.
  """
  config = EvaluateConfig(**given)
  read_config(config.workdir)
  with define.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm import evaluation
    from charlm.learner import Learner, make_strategy
    from data_pipeline import prepare
  opened = workdir.open_model(config.workdir, config.weights)
  data = choose_data(config, opened.config.data)
  split = config.split or ('all' if config.corpus and not config.corpus.startswith('tfds:') else 'valid')
  _, files = prepare.prepare(data, opened.tokenizer)
  file = files.get('train' if split == 'all' else split)
  if split == 'all' and file.num_tokens < 2:
    raise UserError(f'--corpus={data.corpus}: expected at least 2 tokens to evaluate, found {file.num_tokens}')
  if file is None or file.num_tokens < 2:
    raise UserError(f'--split={split}: --corpus={data.corpus} has too little text there; expected one of '
                    f'{", ".join(files)}')
  if file.num_unknown:
    print(f'warning: --corpus={data.corpus}: {file.num_unknown:,} of {file.num_tokens:,} characters are unknown to '
          f'this model, first {file.first_unknown!r}', file=sys.stderr)
  learner = Learner(opened.model, strategy=make_strategy('default'), recurrence=config.recurrence)
  sums = evaluation.evaluate_file(learner, file, batch_size=config.batch_size, length=config.chunk_length,
                                  bar=evaluation.progress_bar)
  print(json.dumps({**evaluation.report(sums, file), 'corpus': data.corpus, 'split': split,
                    'workdir': config.workdir, 'weights': config.weights, 'step': opened.state['step']}))


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
