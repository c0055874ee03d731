"""Flags of charlm-export."""
import dataclasses

from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
  """What to export."""
  workdir: str = field('', 'Folder of the trained model.', path=True, short='Folder of the trained model')
  export_dir: str = field('', 'Folder that TF Serving watches; the model goes to EXPORT_DIR/VERSION.',
                          path=True, short='Folder that TF Serving watches; the model goes to EXPORT_DIR/VERSION')
  version: int = field(0, 'Version of the served model; 0 takes one more than the newest version there.', minimum=0,
                       maximum=2**63 - 1, short='Version of the served model; 0 takes the next one')
  weights: str = field('best', 'Which weights: best (by validation loss) or last.', choices=['best', 'last'],
                       short='Which weights: best (by validation loss) or last')
