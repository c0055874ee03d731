"""The address of something that is not on this machine is no path."""
import pytest

from charlm.commands import evaluate, export, sample, train
from flags import parse
from flags.data import DataConfig

FLAGS = [(train, 'corpus'), (train, 'workdir'), (train, 'cache_dir'), (train, 'init_from'), (evaluate, 'corpus'),
         (evaluate, 'workdir'), (sample, 'workdir'), (sample, 'prompt_file'), (export, 'workdir'),
         (export, 'export_dir')]


@pytest.mark.parametrize('address', ['gs://bucket/text', 's3://bucket/a.txt', 'https://example.com/a.txt', 'hdfs://a/b',
                                     'ram://a', 'FILE:///tmp/a'])
@pytest.mark.parametrize('command, flag', FLAGS)
def test_an_address_is_refused(tmp_path, monkeypatch, capsys, command, flag, address):
  monkeypatch.chdir(tmp_path)
  others = [f'--{name}={tmp_path}/none' for one, name in FLAGS if one is command and name == 'workdir' != flag]
  with pytest.raises(SystemExit) as exit_:
    command.run([f'charlm-{command.__name__.rpartition(".")[2]}', f'--{flag}={address}', *others])
  error, = capsys.readouterr().err.splitlines()
  assert exit_.value.code == 2
  assert f': --{flag}={address}: {address.partition("//")[0]}// is not supported; expected a path on this' in error
  assert not list(tmp_path.iterdir())


def test_data_dir(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit):
    train.run(['charlm-train', '--corpus=tfds:a', '--data_dir=s3://bucket/a', '--workdir=w'])
  assert ('--data_dir=s3://bucket/a: s3:// is not supported; expected a path on this machine or gs://; copy it'
          in capsys.readouterr().err)
  assert parse.parse(['charlm-train', '--data_dir=gs://bucket/a'], [DataConfig]) == {'data_dir': 'gs://bucket/a'}
  assert not list(tmp_path.iterdir())


def test_names_that_are_no_addresses(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  for name in 'a:b', './gs://x', '://x', 'tfds:x', '1s://x', 'a b://x':
    with pytest.raises(SystemExit):
      train.run(['charlm-train', f'--corpus={name}', '--workdir=w', '--data_dir='])
    assert 'not supported' not in capsys.readouterr().err
