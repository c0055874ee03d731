"""Where there is no TPU, --strategy=tpu says so. What it computes is in tests/chips."""
import socket

import pytest

from charlm.commands import train
from charlm.training import tpu
from flags.errors import UserError


@pytest.fixture
def closed():
  """An address where nobody listens."""
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    yield f'grpc://127.0.0.1:{server.getsockname()[1]}'


@pytest.mark.parametrize('name', ['local', '', 'no.such.tpu', 'grpc://127.0.0.1', 'grpc://127.0.0.1:port'])
def test_no_tpu(name):
  with pytest.raises(UserError, match=f'--tpu={name}: expected a TPU .*tensorflow-tpu') as refused:
    tpu.connect(name)
  assert '\n' not in str(refused.value)


def test_nobody_listens(closed):
  with pytest.raises(UserError, match='refused'):
    tpu.connect(closed)


def test_the_command(corpus, tmp_path, capfd):
  with pytest.raises(SystemExit, match='2'):
    train.run(['charlm-train', f'--corpus={corpus}', f'--workdir={tmp_path / "run"}', '--strategy=tpu', '--steps=1'])
  assert '--tpu=local: expected a TPU' in capfd.readouterr().err
  assert not (tmp_path / 'run').exists()
