"""`Config`: all that a trained model was made with, saved as `config.json` in the workdir."""
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from flags import typed
from flags.data import DataConfig
from flags.errors import UserError
from flags.network import ModelConfig
from flags.places import Places
from flags.training import TrainConfig

# Of config.json. Raise it when fields change, and have `from_json` translate or refuse what was written before.
# Format 1 has no version in it, and the fields of format 2. Format 2 has no places.
FORMAT_VERSION = 3
GROUPS: dict[str, Any] = {'data': DataConfig, 'model': ModelConfig, 'train': TrainConfig}  # of flags
ESCAPED = {f.name for group in GROUPS.values() for f in dataclasses.fields(group) if 'escapes' in f.metadata}


@dataclasses.dataclass(frozen=True)
class Config:
  """All that a trained model was made with."""
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
  places: Places = dataclasses.field(default_factory=Places)

  def __post_init__(self) -> None:
    if self.train.multi_step >= min(self.data.lengths):
      raise UserError(f'--multi_step={self.train.multi_step}: expected less than the shortest chunk, '
                      f'{min(self.data.lengths)} tokens')
    if not self.data.valid_fraction and not self.data.corpus.startswith(('tfds:', typed.TOKENS)):
      for flag in self.train.needing_validation():
        raise UserError(f'{flag} with --valid_fraction=0: expected a validation split to wait for')

  def to_json(self) -> str:
    """The text of config.json."""
    groups = {name: _texts(group, typed.escaped) for name, group in dataclasses.asdict(self).items()}
    return json.dumps({'format_version': FORMAT_VERSION, **groups}, indent=2) + '\n'

  @classmethod
  def from_json(cls, text: str) -> 'Config':
    """The configuration that `to_json` wrote, in this format or an older one.

    Raises:
      UserError: `text` is not a configuration, is of a newer format, or has values that are refused.
    """
    try:
      groups = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise _no_configuration(error) from error
    version = groups.pop('format_version', 1) if isinstance(groups, dict) else 0
    if type(version) is not int or version < 1:
      raise _no_configuration('expected a format_version and groups of flags')
    if version > FORMAT_VERSION:
      raise UserError(f'a newer charlm saved this configuration, in format {version}; expected format '
                      f'{FORMAT_VERSION} or older. Use the charlm that saved it, or a newer one')
    types = {**GROUPS, 'places': Places}
    if groups.keys() | ({'places'} if version < 3 else set()) != types.keys():
      raise _no_configuration(f'has {", ".join(groups) or "no groups"}; expected {", ".join(types)}')
    return cls(**{name: _group(name, types[name], values) for name, values in groups.items()})

  def flat(self) -> dict[str, Any]:
    """{flag: value} of all groups."""
    return {name: value for group in GROUPS for name, value in dataclasses.asdict(getattr(self, group)).items()}

  def replace(self, values: Mapping[str, Any]) -> 'Config':
    """The configuration with other values. values: {flag: value}."""
    assert values.keys() <= self.flat().keys(), values
    groups = {name: getattr(self, name) for name in GROUPS}
    return dataclasses.replace(self, **{name: dataclasses.replace(group, **{
        flag: value for flag, value in values.items() if flag in group.__dataclass_fields__})
                                        for name, group in groups.items()})


def _group(name: str, kind: Any, values: Any) -> Any:
  """The dataclass `kind` with the values that JSON has for it. Raises UserError."""
  if not isinstance(values, dict):
    raise _no_configuration(f'{name}: expected the values of flags')
  if unknown := [*values.keys() - kind.__dataclass_fields__.keys()]:
    raise _no_configuration(f'{name}: has {min(unknown)!r}, which is no flag')
  return kind(**_texts(values, typed.unescaped))


def _no_configuration(why: object) -> UserError:
  return UserError(f'not a charlm configuration ({why})')


def _texts(values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
  """The values of a group, its texts with escapes changed: config.json has them as they are typed."""
  return {name: change(value) if name in ESCAPED and isinstance(value, str) else value
          for name, value in values.items()}
