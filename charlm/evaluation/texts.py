"""The text to evaluate on. The one that a model was trained on is known by its digest, whatever it is called now."""
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from data_pipeline import prepare
from data_pipeline.prepare import Source
from data_pipeline.prepared import is_prepared
from flags.data import DataConfig
from flags.errors import UserError
from flags.evaluation import EvaluateConfig
from flags.places import absolute

if TYPE_CHECKING:
  from charlm.workdir.trained_model import TrainedModel

OF_DATA_SETS = 'data_dir', 'text_feature'  # flags


class EvaluatedText(NamedTuple):
  """A text, and what of it is evaluated."""
  source: Source
  split: str  # train, valid, test or all
  trained_on: bool  # whether it is the text that the model was trained on


def choose(config: EvaluateConfig, opened: 'TrainedModel') -> EvaluatedText:
  """Chooses the text to evaluate on.

  Args:
    config: the flags.
    opened: the model.

  Returns:
    The text trained on, or another corpus, divided into splits in the same way or not at all.

  Raises:
    UserError: the text is not found, cannot be read, or has no such split.
  """
  if config.corpus:
    source = prepare.open_source(_named(config, opened))
  else:
    source = find_trained(config, opened, f'--workdir={config.workdir}')
  trained_on = source.content == opened.state['text']
  is_data_set = source.config.corpus.startswith('tfds:')
  has_splits = is_data_set or bool(source.prepared)
  for name in OF_DATA_SETS if not is_data_set else ():
    if value := getattr(config, name):
      raise UserError(f'--{name}={value} has no effect beside --corpus={source.config.corpus}: expected it left out, '
                      'or a tfds: corpus')
  split = config.split or ('valid' if trained_on or has_splits else 'all')
  if split != 'all':
    return EvaluatedText(source, split, trained_on)
  if has_splits:
    raise UserError(f'--split=all with --corpus={source.config.corpus}: expected train, valid or test')
  whole = dataclasses.replace(source.config, valid_fraction=0.0, test_fraction=0.0)
  return EvaluatedText(prepare.open_source(whole), split, trained_on)


def find_trained(config: EvaluateConfig, opened: 'TrainedModel', named: str) -> Source:
  """Finds the text that the model was trained on.

  Args:
    config: the flags; a --corpus may be where it is now.
    opened: the model.
    named: the flag that asks for it, for the message.

  Raises:
    UserError: it is not found, or has changed.
  """
  candidates = _candidates(config, opened)
  if config.corpus and absolute(config.corpus) not in {candidate.corpus for candidate in candidates}:
    candidates.append(_named(config, opened))
  remedy = ('Bring it back, or leave --dynamic out' if named == '--dynamic' else
            'Bring it back, or name a text with --corpus: another one is evaluated whole')
  return prepare.find(opened.state['text'], candidates, named=named, remedy=remedy)


def _named(config: EvaluateConfig, opened: 'TrainedModel') -> DataConfig:
  """--corpus, with all else as the model was trained."""
  trained = _candidates(config, opened)[0]
  if config.corpus.startswith('tfds:'):
    return dataclasses.replace(trained, corpus=config.corpus, data_dir=config.data_dir or trained.data_dir,
                               text_feature=config.text_feature or trained.text_feature)
  if is_prepared(config.corpus):  # which brings all else along
    return DataConfig(corpus=config.corpus, document_reset=trained.document_reset)
  return dataclasses.replace(trained, corpus=config.corpus, data_dir='', text_feature='')


def _candidates(config: EvaluateConfig, opened: 'TrainedModel') -> list[DataConfig]:
  """Where the text trained on may be, with the locations that are given."""
  trained = opened.config
  flags = ('cache_dir', *OF_DATA_SETS) if trained.data.corpus.startswith('tfds:') else ('cache_dir',)
  given = {name: value for name in flags if (value := getattr(config, name))}
  return [dataclasses.replace(candidate, **given)
          for candidate in trained.places.candidates(trained.data, config.workdir)]
