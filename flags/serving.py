"""Flags of charlm-export."""
import dataclasses

from flags.schema import Checked, field


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
  """What to export."""
  workdir: str = field('', 'Folder of the trained model.', short='Folder of the trained model.')
  export_dir: str = field('', 'Folder that TF Serving watches; the model goes to EXPORT_DIR/VERSION.',
      short='Folder that TF Serving watches.')
  version: int = field(0, 'Version of the served model; one more than the newest there when 0.', minimum=0,
                       maximum=2**63 - 1, short='Version; one more than the newest when 0.')
  weights: str = field('best', 'best (by validation loss) or last.', choices=['best', 'last'],
      short='best (by validation loss) or last.')
