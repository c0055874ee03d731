"""The overlaps: the table's means, spreads and differences between runs of one seed; what is run."""
import pytest

from benchmarks import overlap
from charlm.training import autoconfig
from flags import parse
from flags.config import Config
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.run import RunConfig
from flags.training import TrainConfig


def run(budget, chunk, seed, valid):
  line = {'step': 10, 'tokens': 1000 + seed, 'epoch': 0.5, 'seconds': 3.0}
  return {'budget': budget, 'chunk': chunk, 'seed': seed, 'valid': valid, 'metrics': [{}, line]}


def test_the_table():
  runs = [run('tokens=10', '0/8', 0, 2.0), run('tokens=10', '4/8', 0, 1.5), run('tokens=10', '0/8', 1, 2.2),
          run('tokens=10', '4/8', 1, 1.7), run('minutes=1', '0/8', 0, 3.0), run('minutes=1', '4/8', 1, 3.0)]
  *_, plain, half, other, alone = overlap.table(runs).splitlines()
  assert plain == ('| tokens=10 | 0 of 8 | 10 | 1,000 | 0.50 | 3 | 2.1000 ± 0.1414 | 0.0000 ± 0.0000 |')
  assert half == ('| tokens=10 | 4 of 8 | 10 | 1,000 | 0.50 | 3 | 1.6000 ± 0.1414 | -0.5000 ± 0.0000 |')
  assert other == '| minutes=1 | 0 of 8 | 10 | 1,000 | 0.50 | 3 | 3.0000 | 0.0000 |'
  assert alone == '| minutes=1 | 4 of 8 | 10 | 1,001 | 0.50 | 3 | 3.0000 |  |', 'the first of that seed is not done'


def test_what_is_run(tmp_path, monkeypatch, capsys):
  """Nothing is left for charlm-train to fit to the time, so that all budgets train one model."""
  seen = []

  def measure(run, threads):
    seen.append(run['flags'])
    return {'valid': 2.0, 'metrics': [{'step': 1, 'tokens': 1, 'epoch': 0.5, 'seconds': 3.0}]}

  monkeypatch.setattr(overlap, 'measure', measure)
  def main(*flags):
    monkeypatch.setattr('sys.argv', ['overlap', '--corpus=pydoc', '--seeds=2', '--chunks=0/64,16/64,0/32',
                                     '--tokens=102400', f'--out={tmp_path}', *flags])
    overlap.main()

  main('--units=32', '--batch_size=8')
  assert len(seen) == 2 * 3 * 3 and len(set(map(tuple, seen))) == len(seen)
  assert capsys.readouterr().out.count(' | 0.0000 ± 0.0000 |\n') == 9
  main('--units=32', '--batch_size=8')
  assert len(seen) == 2 * 3 * 3
  groups, limits = {'data': DataConfig, 'model': ModelConfig, 'train': TrainConfig}, set()
  for flags in seen:
    given = parse.parse(['overlap', '--workdir=w', *flags], (RunConfig, *groups.values()))
    config = Config(**{name: group(**{k: v for k, v in given.items() if k in group.__dataclass_fields__})
                       for name, group in groups.items()})
    left = autoconfig.choose(config, given, autoconfig.Setting(10**6, 10**5, 64, 2))
    assert config.model.units == 32 and left.keys() <= {'save_every', 'sample_every'}
    limits.add((f'{config.data.chunk_overlap}/{config.data.chunk_length}',
                *(given.get(name, 0) for name in ('epochs', 'steps', 'max_minutes'))))
  assert limits == {(chunk, *limit) for chunk, steps in {'0/64': 200, '16/64': 200, '0/32': 400}.items()
                    for limit in [(2, 0, 0), (0, steps, 0), (0, 0, 1)]}
  for refused in '--seed=5', '--chunk_length=32', '--overlaps', '--steps=100':
    with pytest.raises(SystemExit):
      main(refused)
    assert f'{refused.partition("=")[0]}: ' in capsys.readouterr().err
