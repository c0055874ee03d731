"""How many cores a process may use."""
import pytest

from charlm.network import runtime
from charlm.training import local_workers
from data_pipeline.beam.pipeline import Runner
from flags import machine
from flags.prepare import PrepareConfig


@pytest.mark.parametrize('text,cores', [('max 100000', None), ('250000 100000', 2), ('50000 100000', 1), ('', None),
                                        (None, None)])
def test_cores_are_no_more_than_the_container_may_use(tmp_path, text, cores):
  if text is not None:
    (tmp_path / 'cpu.max').write_text(text + '\n')
  assert machine.quota(tmp_path) == cores


def test_all_that_starts_threads_or_processes_asks(monkeypatch):
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS', raising=False)
  monkeypatch.setattr(machine, 'quota', lambda: 1)
  prepare = Runner(PrepareConfig(corpus='book.txt', tokens_dir='tokens'))
  assert machine.cores() == runtime.threads() == prepare._workers == 1
  assert local_workers.environment(['a:1'], 0)['TF_NUM_INTRAOP_THREADS'] == '1'
