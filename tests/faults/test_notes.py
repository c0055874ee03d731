"""A record with notes of somebody else's; a plot and events that cannot be made."""
import json
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from charlm.commands import train
from charlm.workdir import checkpoint, layout, metrics, plot
from runs import ROOT, flags, without_account

FEW = ['--steps=12', '--eval_every=6', '--sample_every=6']  # steps, with a checkpoint at 6
LINE = {'epoch': 0.5, 'tokens': 3, 'seconds': 1.0, 'train_nats_per_token': 2.5, 'valid_nats_per_token': 2.5,
        'gradient_norm': 0.5, **{f'gradient_norm_p{p}': 0.3 + p / 300 for p in metrics.PERCENTILES},
        'gradient_norm_max': 0.7, 'learning_rate': 0.1}
NOTES = [b'# looks good so far', b'', b'   ', b'{"note": "no step"}', b'[1, 2]', b'17', b'"step"', b'null', b'NaN',
         b'{"step": "5"}', b'{"step": null}', b'{"step": 2.5}', b'{"step": NaN}', b'{"step": true}', b'{"step": -1}',
         b'{"step": 5, "train_nats_per_token": "low", "gradient_norm_p50": null, "tokens": [1], "epoch": {"a": 1}}',
         b'{"step": 5, "train_nats_per_token": NaN, "gradient_norm_p10": Infinity, "gradient_norm_p50": -Infinity}',
         b'{"step": 5, "gradient_norm_p10": 1}', b'{"step": 5, "tokens": 1' + b'0' * 400 + b'}', b'\xff\xfe\x00n',
         '{"step": 5, "note": "наблюдение"}'.encode(), b'[' * 100000, b'{"note": "' + b'x' * 100000 + b'"}',
         b'\x00\x00', b'{"step": 5, "step": 5}\r', b'{"step": 5}']
LATER = [b'{"step": 20, "train_nats_per_token": 2.0}', b'{"step": 9223372036854775807}', b'{"step": 20']


def told(capsys):
  return capsys.readouterr().err.splitlines()


def annotate(workdir):
  """A record with steps 5 to 20, and notes around each line."""
  lines = [json.dumps({'step': step, **LINE}).encode() for step in (5, 10)]
  (workdir / 'metrics.jsonl').write_bytes(b'\n'.join([lines[0], *NOTES, lines[1], *LATER]))


def test_everything_that_reads_the_record_passes_by_notes(tmp_path):
  annotate(tmp_path)
  read = metrics.read_metrics(layout.metrics_path(tmp_path))
  assert {line['step'] for line in read} == {5, 10, 20, 2**63 - 1} and len(read) > 4
  assert plot.draw(tmp_path).read_bytes().startswith(b'\x89PNG')
  with metrics.MetricWriter(tmp_path, 10) as writer:
    writer.write({'step': 15, **LINE})
  assert {line['step'] for line in metrics.read_metrics(layout.metrics_path(tmp_path))} == {5, 10, 15}


def test_notes_stay_when_a_run_goes_on(tmp_path):
  annotate(tmp_path)
  before = (tmp_path / 'metrics.jsonl').read_bytes().split(b'\n')
  for _ in range(2):
    with metrics.MetricWriter(tmp_path, 10):
      pass
    kept = (tmp_path / 'metrics.jsonl').read_bytes()
    assert kept.endswith(b'\n') and kept[:-1].split(b'\n') == [line for line in before if line not in LATER]


@pytest.mark.parametrize('cut', range(1, 12))
def test_a_line_that_a_kill_has_torn_goes(tmp_path, cut):
  whole = json.dumps({'step': 5, **LINE}).encode() + b'\n'
  (tmp_path / 'metrics.jsonl').write_bytes(whole + whole[:cut])
  with metrics.MetricWriter(tmp_path, 5):
    pass
  assert (tmp_path / 'metrics.jsonl').read_bytes() == whole


def test_an_edited_or_removed_record_is_written_on(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with metrics.MetricWriter(tmp_path, 0) as writer:
    path.write_text('a note without an end')
    writer.write({'step': 5})
    assert path.read_text() == 'a note without an end\n{"step": 5}\n'
    path.unlink()
    writer.write({'step': 10})
    assert path.read_text() == '{"step": 10}\n'
  path.unlink()
  with metrics.MetricWriter(tmp_path, 10):
    assert path.read_text() == ''


def test_a_run_with_a_record_of_somebody_elses(corpus, finished, tmp_path, capsys):
  """Through the command: a run goes on, ends, and is summed up."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  checkpoint.saved(workdir)[0].unlink()
  annotate(workdir)
  train.run(flags(corpus, workdir))
  assert '[' * 100000 in (workdir / 'metrics.jsonl').read_bytes().decode('latin-1')
  (workdir / 'metrics.jsonl').unlink()
  train.run(flags(corpus, workdir))
  assert capsys.readouterr().out.count('Trained for 40 steps') == 2


# A plot and TensorBoard's events never fail a run.


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), ValueError('no such font'),
                                   ImportError('no backend'), RuntimeError('broken\nmatplotlibrc'), MemoryError()])
def test_a_plot_that_fails_is_a_notice(tmp_path, monkeypatch, capsys, error):
  def fails(workdir):
    raise error

  monkeypatch.setattr(plot, 'draw', fails)
  plot.try_to_draw(tmp_path)
  line, = told(capsys)
  assert line.startswith(f'notice: {tmp_path}/plot.png was not drawn ({type(error).__name__}')


def test_a_folder_in_the_place_of_the_plot(corpus, tmp_path, capsys):
  (tmp_path / 'run' / 'plot.png').mkdir(parents=True)
  train.run(flags(corpus, tmp_path / 'run', *FEW))
  out, err = capsys.readouterr()
  assert 'Trained for 12 steps' in out and 'notice: ' in err and 'plot.png was not drawn' in err


@pytest.mark.slow
@pytest.mark.parametrize('variables', [
    {'MPLBACKEND': 'nonsense'}, {'MPLCONFIGDIR': '/proc/nowhere'}, {'MATPLOTLIBRC': '.'}], ids=str)
def test_settings_of_matplotlib_that_are_broken(corpus, tmp_path, variables):
  """TensorFlow imports matplotlib, too, in every command."""
  (tmp_path / 'matplotlibrc').write_text('lines.linewidth: wide\nfigure.dpi\nfont.family: nonsense\n')
  command = [sys.executable, '-m', 'charlm.commands.train', *flags(corpus, 'run', '--steps=2', '--sample_every=0')[1:]]
  result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT), **variables})
  assert result.returncode == 0 and 'Trained for 2 steps' in result.stdout, result.stderr
  *_, line = result.stderr.splitlines()
  assert line.startswith('notice: ') != (tmp_path / 'run' / 'plot.png').exists(), result.stderr
  assert len(without_account(result.stderr).splitlines()) <= 2, result.stderr  # a report, and a notice


@pytest.mark.parametrize('place', ['file', 'gone bad'])
def test_events_that_cannot_be_written_are_a_notice(tmp_path, monkeypatch, capsys, place):
  if place == 'file':
    (tmp_path / 'tensorboard').touch()
  with metrics.MetricWriter(tmp_path, 0) as writer:
    writer.write({'step': 5, **LINE})
    if place != 'file':
      def full(*args, **options):
        raise tf.errors.ResourceExhaustedError(None, None, 'events; No space left on device\nmore')

      monkeypatch.setattr(tf.summary, 'scalar', full)
    for step in (10, 15):
      writer.write({'step': step, **LINE})
      writer.write_sample(step, b'text')
  lines = told(capsys)
  assert len(lines) == 1 and 'going on without TensorBoard' in lines[0], lines
  assert [line['step'] for line in metrics.read_metrics(tmp_path / 'metrics.jsonl')] == [5, 10, 15]
  monkeypatch.undo()
  if place != 'file':
    with metrics.MetricWriter(tmp_path, 15):
      pass
    assert list((tmp_path / 'tensorboard').glob('events.out.*')) and not told(capsys)
