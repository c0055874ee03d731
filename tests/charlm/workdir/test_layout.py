"""Nothing in a workdir is lost or written over."""
import os

import numpy as np
import pytest

from charlm.commands import train
from charlm.training import trainer
from charlm.workdir import checkpoint, layout, metrics, plot
from data_pipeline.tokenizers.byte import ByteTokenizer
from flags.config import Config
from flags.errors import RunError, UserError
from flags.network import ModelConfig
from runs import flags


def test_best_weights_of_a_run_that_was_killed_before_its_first_checkpoint_are_kept(corpus, tmp_path, monkeypatch,
                                                                                   capsys):
  def die(self):
    raise RunError('died')

  folder = tmp_path / 'run' / 'checkpoints'
  with monkeypatch.context() as patch, pytest.raises(SystemExit):
    patch.setattr(trainer.Trainer, '_save', die)
    train.run(flags(corpus, tmp_path / 'run', '--steps=4', '--eval_every=2', '--save_every=0'))
  best, = folder.iterdir()
  weights, state = checkpoint.read(best)
  train.run(['charlm-train', f'--workdir={tmp_path / "run"}'])
  aside = folder / f'best-of-step-{state["step"]}.npz'
  assert str(aside) in capsys.readouterr().err
  for name, array in checkpoint.read(aside)[0].items():
    np.testing.assert_array_equal(array, weights[name])
  assert {p.name for p in folder.iterdir()} == {aside.name, 'best.npz', 'step-00000004.npz'}


def test_a_run_that_began_meanwhile_is_not_written_over(finished):
  before = (finished / 'config.json').read_text()
  with pytest.raises(UserError, match='meanwhile'):
    layout.save_config(finished, Config(), None)
  assert (finished / 'config.json').read_text() == before


def save_checkpoint(folder):
  checkpoint.save(folder, 5, {'model/w': np.ones(2)}, {'step': 5})


def write_metrics(folder, sample=b''):
  with metrics.MetricWriter(folder, 10) as writer:
    if sample:
      writer.write_sample(5, sample)


WRITES = [
    ('config.json', lambda folder: layout.update_config(folder, Config(model=ModelConfig(units=7)))),
    ('metrics.jsonl', write_metrics),
    ('plot.png', plot.draw),
    ('samples/step-00000005.txt', lambda folder: write_metrics(folder, b'new')),
    ('checkpoints/step-00000005.npz', save_checkpoint),
    ('checkpoints/best.npz', lambda folder: checkpoint.write(folder, checkpoint.BEST, {}, {'step': 5})),
]


@pytest.mark.parametrize('name, write', WRITES, ids=[name for name, _ in WRITES])
def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch, name, write):
  class Killed(BaseException):
    """What no handler of errors takes for one."""

  replace = os.replace

  def dies(source, target, **folders):
    if os.path.join(os.readlink(f'/proc/self/fd/{folders["dst_dir_fd"]}'), target) == str(tmp_path / name):
      assert source.startswith(f'.{target}.') and source.endswith('.tmp')
      raise Killed
    replace(source, target, **folders)

  layout.save_config(tmp_path, Config(), ByteTokenizer())
  (tmp_path / 'metrics.jsonl').write_text('{"step": 5}\n{"step": 20}\n')
  (tmp_path / name).parent.mkdir(exist_ok=True)
  if not (tmp_path / name).exists():
    (tmp_path / name).write_bytes(b'the old file')
  old = (tmp_path / name).read_bytes()
  monkeypatch.setattr(os, 'replace', dies)
  with pytest.raises(Killed):
    write(tmp_path)
  assert (tmp_path / name).read_bytes() == old
  monkeypatch.setattr(os, 'replace', replace)
  write(tmp_path)
  assert (tmp_path / name).read_bytes() != old
