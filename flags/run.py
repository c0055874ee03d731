"""Flags of one run of charlm-train: its folder, a preset to start from, and how it is computed."""
import dataclasses
import pathlib

from flags.errors import UserError
from flags.network import RECURRENCE_HELP
from flags.schema import Checked, field

PRESETS = {path.stem: path for path in sorted((pathlib.Path(__file__).parent / 'presets').glob('*.flags'))}


@dataclasses.dataclass(frozen=True)
class RunConfig(Checked):
  """The run."""
  workdir: str = field('', 'Folder for the model and everything about it. A run that has saved a checkpoint there '
                       'goes on; flags that are left out then keep their values.', path=True,
                       short='Folder for the model; a run that was stopped goes on there')
  preset: str = field('', 'A named set of flags that comes with charlm, such as demo; flags given beside it win.',
                      choices=['', *PRESETS], short='A named set of flags, such as demo; flags given beside it win')
  recurrence: str = field('auto', RECURRENCE_HELP, choices=['auto', 'xla', 'native'])
  steps_per_call: int = field(1, 'Training steps in one call of the compiled program, so that an accelerator does not '
                              'wait for Python between short steps. Reports, evaluations and the like fall between '
                              'calls: steps just before them, and at the end of a pass, are taken one by one. The bits '
                              'are those of 1.', minimum=1, maximum=1000)
  local_workers: int = field(0, 'Processes on this machine that share the rows of each batch, with --strategy='
                             'multi_worker; each has its share of the cores. They are started and ended together. To '
                             'try on one machine what is to run on many: one process that uses all cores is faster. '
                             '0 starts none.', minimum=0, maximum=64)
  worker_timeout: float = field(600.0, 'Seconds that a worker of --strategy=multi_worker waits for the others, to '
                                'start or in a step, before it ends with an error. Raise it where compiling, a step '
                                'or a sample of text takes longer.', minimum=1.0)
  profile: bool = field(False, 'Profile ten steps, soon after the start, for the Profile page of TensorBoard (pip '
                        'install tensorboard-plugin-profile). Use it to see where the time of a step goes.')

  def check(self) -> None:
    if not self.workdir:
      raise UserError('--workdir: expected a folder for the model, such as --workdir=runs/first')
