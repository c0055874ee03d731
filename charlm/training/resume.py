"""Going on: which choices a run has, from its workdir, from another model, and from the flags given."""
import dataclasses
import pathlib

from charlm.training import autoconfig
from charlm.workdir import layout
from flags.config import Config, read_config
from flags.errors import UserError
from flags.network import DROPOUTS, ModelConfig
from flags.run import RunConfig

# Flags that say where things are on this machine, not what the model is.
PLACES = ('workdir', 'preset', 'corpus', 'cache_dir', 'data_dir')
# Flags that a run which starts from another model (--init_from) has from there.
FOLLOW = ('tokenizer', 'vocab_size', *ModelConfig.__dataclass_fields__)


def choose_config(workdir, given):
  """The configuration of a run: the saved one where the workdir has a checkpoint, else the given flags over defaults.

  Before the first checkpoint nothing is lost with other flags; the saved ones count where none are given. A run that
  starts from another model (--init_from) has its network and its tokenizer, and its dropout where none is given.

  Raises UserError where flags are given that differ from those of a checkpoint, or of the other model. A corpus may
  have another name than it had: checkpoint.check_identity tells whether it is the same text.
  """
  if pathlib.Path(workdir).exists() and not pathlib.Path(workdir).is_dir():
    raise UserError(f'--workdir={workdir}: is a file; expected a folder, or a new name')
  chosen = {k: v for k, v in given.items() if k not in RunConfig.__dataclass_fields__}
  alone = chosen.keys() <= {*PLACES} - {'corpus'} and layout.config_path(workdir).exists()
  if not layout.begun(workdir) and not alone:
    if chosen.get('init_from'):
      chosen = _followed(chosen) | chosen
    chosen = autoconfig.provisional(chosen) | chosen
    return Config().replace(chosen)
  saved = read_config(workdir)
  other = _differing(chosen, {k: v for k, v in saved.flat().items() if k not in PLACES})
  if other:
    raise UserError(f'--workdir={workdir}: was started with other flags: now {other}. Leave them out '
                    f'to go on, or start in another folder (--init_from={workdir} goes on from its weights there)')
  places = {k: v for k, v in chosen.items() if k in PLACES}
  return dataclasses.replace(saved, data=dataclasses.replace(saved.data, **places))


def _differing(given, saved):
  """The given flags that differ from the saved ones, in words; '' where none do."""
  return ', '.join(f'--{k}={v} (was {saved[k]})' for k, v in given.items() if k in saved and v != saved[k])


def _followed(chosen):
  """The flags that a run has from the model that it starts from, those that may be others included."""
  saved = read_config(chosen['init_from'], 'init_from').flat()
  followed = {k: saved[k] for k in FOLLOW}
  if not any({**followed, **chosen}[name] for name in DROPOUTS):
    followed['dropout_per'] = ModelConfig.dropout_per  # that of the other model has no effect any more
  other = _differing(chosen, {k: v for k, v in followed.items() if k not in ModelConfig.of_training()})
  if other:
    raise UserError(f'--init_from={chosen["init_from"]}: its model was made with other flags: now {other}. Leave them '
                    'out, or leave --init_from out to start afresh')
  return followed
