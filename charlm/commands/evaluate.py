"""charlm-evaluate: says how likely a text is."""
import json
from typing import TYPE_CHECKING, Any

from charlm.commands import console
from charlm.workdir import layout
from flags import typed
from flags.errors import UserError
from flags.evaluation import EvaluateConfig

if TYPE_CHECKING:
  from charlm.evaluation.dynamic import DynamicScorer
  from charlm.evaluation.texts import EvaluatedText
  from charlm.network.model import LanguageModel
  from charlm.workdir.trained_model import TrainedModel
  from data_pipeline.token_files import TokenFile


def main(given: dict[str, Any]) -> None:
  """says how likely a text is under a trained model, as one JSON object.

  charlm-evaluate --workdir=runs/mine                          the validation split
  charlm-evaluate --workdir=runs/mine --corpus=other.txt       another text, whole

  Every token counts once. The result is that of one row, whatever the rows and the chunk length, to
  1e-4 nats per token; but for --dynamic, and for what luck does to --mc_dropout and --free_running.
  The text trained on is known by its digest, whatever its name.
  """
  config = EvaluateConfig(**given)
  layout.read_config(config.workdir)
  with console.quietly():  # TensorFlow takes seconds to import; mistakes in the flags are told before that
    from charlm.evaluation import scoring, texts
    from charlm.workdir import trained_model
  opened = trained_model.load_model(config.workdir, config.weights, config.recurrence)
  opened.config.data.check_recurrence(config.recurrence)
  text = texts.choose(config, opened)
  file = read_split(config, opened, text)
  nats, tokens, how = score(config, opened, file)
  if config.free_running:
    how |= run_freely(config, opened.model, file)
  print(json.dumps({**scoring.report(nats, tokens, file), 'corpus': typed.words(text.source.config.corpus),
                    'split': text.split, 'training_corpus': text.trained_on, 'workdir': typed.words(config.workdir),
                    'weights': opened.taken, 'step': opened.state['step'], **how}))


def read_split(config: EvaluateConfig, opened: 'TrainedModel', text: 'EvaluatedText') -> 'TokenFile':
  """Tokenizes the text to evaluate on, and warns of characters that the model does not know.

  Args:
    config: the flags.
    opened: the model.
    text: from `texts.choose`.

  Returns:
    The tokens of the split, at least 2.

  Raises:
    UserError: there is no such split, or too little text in it.
  """
  from data_pipeline import prepare
  data, split = text.source.config, text.split
  _, files = prepare.tokenize(text.source, opened.tokenizer, spare=not config.cache_dir)
  file = files.get('train' if split == 'all' else split)
  if split == 'all' and files['train'].num_tokens < 2:
    found = files['train'].num_tokens
    raise UserError(f'--corpus={data.corpus}: expected at least 2 tokens to evaluate, found {found}')
  if split == 'test' and file is None and text.trained_on and not data.test_fraction:
    raise UserError(f'--split=test: --workdir={config.workdir} was trained with --test_fraction=0, so that no text was '
                    'kept for it; expected another split, or --corpus')
  if file is None or file.num_tokens < 2:
    raise UserError(f'--split={split}: --corpus={data.corpus} has too little text there; expected one of '
                    f'{", ".join(files)}')
  if config.free_running >= file.num_tokens:
    raise _too_short(config, f'{file.num_tokens:,} tokens')
  prepare.warn_of_unknown(data.corpus, [file])
  return file


def score(config: EvaluateConfig, opened: 'TrainedModel', file: 'TokenFile') -> tuple[float, int, dict[str, Any]]:
  """Scores a split in the way that the flags ask for.

  Returns:
    nats, summed; how many targets counted; and what to report beside the figures, {name: JSON value}.

  Raises:
    UserError: the model cannot be evaluated in this way.
  """
  from charlm.evaluation import dynamic, mc_dropout, scoring
  options: dict[str, Any] = {'batch_size': config.batch_size, 'length': config.chunk_length,
                             'progress': scoring.progress_bar}
  if config.dynamic:
    learning, how = make_dynamic_scorer(config, opened, file)
    options |= {'batch_size': config.batch_size or 1, 'length': config.dynamic_length}
    return *dynamic.score_file(learning, file, **options), how
  if not config.mc_dropout:
    return *scoring.score_file(scoring.PlainScorer(opened.model), file, **options), {}
  if not opened.config.model.drops:
    raise UserError(f'--mc_dropout={config.mc_dropout}: --workdir={config.workdir} was trained without dropout; '
                    'expected a model that was trained with --dropout, --recurrent_dropout or --zoneout')
  scorer = mc_dropout.McDropoutScorer(opened.model, passes=config.mc_dropout, seed=config.seed)
  return *scoring.score_file(scorer, file, **options), {'mc_dropout': config.mc_dropout, 'seed': config.seed}


def make_dynamic_scorer(config: EvaluateConfig, opened: 'TrainedModel',
                        file: 'TokenFile') -> tuple['DynamicScorer', dict[str, Any]]:
  """-> a scorer that has measured gradients on the text trained on; and what to report of it, {name: JSON value}."""
  from charlm.evaluation import dynamic, scoring, texts
  from data_pipeline import prepare
  source = texts.find_trained(config, opened, '--dynamic')
  trained = prepare.tokenize(source, opened.tokenizer, spare=not config.cache_dir, progress=False)[1]['train']
  length, trained_length = (min(config.dynamic_length, f.num_tokens - 1) for f in (file, trained))
  rows = max(1, min(dynamic.ROWS, (trained.num_tokens - 1) // trained_length))
  scorer = dynamic.DynamicScorer(opened.model, learning_rate=config.dynamic_learning_rate, decay=config.dynamic_decay)
  batches, steps = dynamic.training_batches(trained, rows, trained_length, config.dynamic_statistics)
  scorer.gather(scoring.progress_bar(batches, steps), rows)
  return scorer, {'dynamic': {'learning_rate': scorer.learning_rate, 'decay': config.dynamic_decay, 'length': length,
                              'rows': scoring.rows_of(file, config.batch_size or 1, length).batch_size,
                              'statistics_tokens': steps * rows * trained_length}}


def run_freely(config: EvaluateConfig, model: 'LanguageModel', file: 'TokenFile') -> dict[str, Any]:
  """-> what --free_running adds to the report, {name: JSON value}. Raises UserError if the text is too short for it."""
  from charlm.evaluation import free_running, scoring
  nats, rollouts = free_running.score_file(model, file, config.free_running, seed=config.seed,
                                           batch_size=config.batch_size, length=config.chunk_length,
                                           progress=scoring.progress_bar)
  if not rollouts:
    raise _too_short(config, 'no rollout of so many tokens without the start of a document')
  return {'free_running_nats_per_token': (nats / rollouts).tolist(), 'free_running_rollouts': rollouts,
          'seed': config.seed}


def _too_short(config: EvaluateConfig, what: str) -> UserError:
  return UserError(f'--free_running={config.free_running}: the text has {what}; expected fewer')


run = console.command(main, EvaluateConfig)

if __name__ == '__main__':
  run()
