"""Flags of one run: where it goes, and how it is computed."""
import dataclasses

from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class RunConfig(Checked):
  """Where the model goes, and a recipe to start from."""
  workdir: str = field('', 'Folder for the model and everything about it. A run that has saved a checkpoint there '
                       'goes on; flags left out then keep their values.',
      short='Folder for the model; a run that is there goes on.')
  preset: str = field('', 'A named recipe that comes with charlm, such as demo; flags beside it win. A place to start '
                      'from.', short='A named recipe, such as demo; flags beside it win.')
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  profile: bool = field(False, 'Profile ten steps, once the first steps are over, for TensorBoard\'s Profile page (pip '
                        'install tensorboard-plugin-profile). Use it to see where the time of a step goes.')

  def check(self) -> None:
    if not self.workdir:
      raise UserError('--workdir: expected a folder for the model, such as --workdir=runs/first')
