"""`Config`: all that a trained model was made with, saved as `config.json` in the workdir."""
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from flags.data import DataConfig
from flags.errors import UserError
from flags.network import ModelConfig
from flags.training import TrainConfig

FORMAT_VERSION = 2  # of config.json; raise it when its fields change their meaning


@dataclasses.dataclass(frozen=True)
class Config:
  """All that a trained model was made with."""
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

  def __post_init__(self):
    if self.train.multi_step >= min(self.data.lengths):
      raise UserError(f'--multi_step={self.train.multi_step}: expected less than the shortest chunk, '
                      f'{min(self.data.lengths)} tokens')
    if not self.data.valid_fraction and not self.data.corpus.startswith('tfds:'):
      for flag in self.train.needing_validation():
        raise UserError(f'{flag} with --valid_fraction=0: expected a validation split to wait for')

  def to_json(self) -> str:
    """The text of config.json."""
    return json.dumps({'format_version': FORMAT_VERSION, **dataclasses.asdict(self)}, indent=2) + '\n'

  @classmethod
  def from_json(cls, text: str) -> 'Config':
    """Raises UserError where `text` is not a configuration of this version."""
    groups: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(cls)}
    try:
      values = json.loads(text)
      version = values.pop('format_version', 1)  # the first had no number, and the same fields
      if version > FORMAT_VERSION:
        raise UserError(f'a newer charlm wrote this configuration, in format {version}; expected format '
                        f'{FORMAT_VERSION} at most. Use that charlm, or train again in another folder')
      return cls(**{name: groups[name](**group) for name, group in values.items()})
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
      raise UserError(f'not a charlm configuration ({error})') from error

  def flat(self) -> dict[str, Any]:
    """Flag name -> value."""
    return {k: v for group in dataclasses.asdict(self).values() for k, v in group.items()}

  def replace(self, values: Mapping[str, Any]) -> 'Config':
    """With these values of flags, by name."""
    assert values.keys() <= self.flat().keys(), values
    groups = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return Config(**{name: dataclasses.replace(group, **{k: v for k, v in values.items()
                                                         if k in group.__dataclass_fields__})
                     for name, group in groups.items()})
