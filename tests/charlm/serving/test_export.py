"""Where a SavedModel goes: to a new version, whole or not at all."""
import os

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from charlm.serving import export
from flags.errors import RunError, UserError
from flags.serving import ExportConfig


@pytest.fixture
def quick(monkeypatch):
  """An export that writes one file, in place of a SavedModel."""
  def fake(model, tokenizer, config, folder, facts):
    (folder / 'saved_model.pb').write_text('model')
    if facts.get('fail'):
      raise facts['fail']

  monkeypatch.setattr(export, '_write', fake)
  return lambda folder, version=0, **facts: export.export(
    None, None, ExportConfig(export_dir=str(folder), version=version), facts=facts)


def test_version_is_one_more_than_the_newest(quick, tmp_path):
  folder = tmp_path / 'a' / 'b'
  assert quick(folder) == folder / '1'
  assert quick(folder, 41) == folder / '41'
  (folder / 'notes').mkdir()
  assert quick(folder) == folder / '42'
  assert sorted(p.name for p in folder.iterdir()) == ['1', '41', '42', 'notes']
  assert (folder / '42' / 'saved_model.pb').read_text() == 'model'
  assert (folder / '42').stat().st_mode & 0o777 == 0o755


def test_an_existing_version_is_never_overwritten(quick, tmp_path):
  (tmp_path / '3').mkdir()
  with pytest.raises(UserError, match=r'--version=3: .* such as 4'):
    quick(tmp_path, 3)
  assert [p.name for p in tmp_path.iterdir()] == ['3'] and not list((tmp_path / '3').iterdir())


def test_a_version_that_appears_meanwhile_is_not_overwritten(quick, tmp_path, monkeypatch):
  def write(model, tokenizer, config, folder, facts):
    (tmp_path / '1').mkdir()
    (tmp_path / '1' / 'first').touch()
    (folder / 'second').touch()

  monkeypatch.setattr(export, '_write', write)
  with pytest.raises(UserError, match='--version=1'):
    quick(tmp_path)
  assert [p.name for p in tmp_path.glob('**/*')] == ['1', 'first']


@pytest.mark.parametrize('failure, raised', [(OSError(28, 'No space left on device'), RunError),
                                             (KeyboardInterrupt(), KeyboardInterrupt)])
def test_nothing_is_left_of_an_export_that_fails(quick, tmp_path, failure, raised):
  with pytest.raises(raised):
    quick(tmp_path, fail=failure)
  assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused(quick, tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  monkeypatch.chdir(tmp_path)
  for folder in (tmp_path / 'file', tmp_path / 'file' / 'below', 'n/' * 2000 + 'file'):
    with pytest.raises(UserError, match=r'--export_dir=.*file'):
      quick(folder)


def test_a_folder_that_may_not_be_written_is_refused(quick, tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'access', lambda path, mode: False)
  with pytest.raises(UserError, match=r'--export_dir=.*Permission denied'):
    quick(tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_weights_are_no_part_of_the_graph(exported):
  """A graph holds 2 GB at most, and a server copies its constants."""
  folder = exported()
  saved = saved_model_pb2.SavedModel.FromString((folder / 'saved_model.pb').read_bytes()).meta_graphs[0].graph_def
  constants = [node for nodes in (saved.node, *(f.node_def for f in saved.library.function)) for node in nodes
               if node.op == 'Const']
  # The largest is what tokens are as text.
  assert max(np.prod([d.size for d in c.attr['value'].tensor.tensor_shape.dim], dtype=int) for c in constants) <= 256
  shapes = [shape for _, shape in tf.train.list_variables(str(folder / 'variables' / 'variables'))]
  assert shapes.count([16, 48]) == 3  # of two layers, and of what the second reads of the first
