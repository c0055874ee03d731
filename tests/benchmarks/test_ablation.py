"""The ablation: what its variants are, the arithmetic of its table, and that a stopped one goes on."""
import dataclasses

import numpy as np
import pytest

from benchmarks import ablation
from flags import parse
from flags.config import Config
from flags.data import DataConfig
from flags.network import ModelConfig
from flags.training import TrainConfig

# Sizes, limits and places, which are no tips; numbers of options that a variant has with one value; seeds.
NO_TIPS = {'embedding_size', 'input_units', 'units', 'steps', 'epochs', 'max_minutes', 'patience', 'flat_epochs',
           'report_every', 'eval_every', 'save_every', 'sample_every', 'strategy', 'tpu', 'seed', 'init_from',
           'init_weights', 'plateau_factor', 'discriminator_learning_rate'}


def config(name):
  argv = ['ablation', *ablation.arguments(name, 'pydoc', 1200, 7)]
  return Config().replace(parse.parse(argv, (DataConfig, ModelConfig, TrainConfig)))


def test_each_variant_is_accepted_and_another():
  found = [config(name) for name in ablation.VARIANTS]
  assert len(set(found)) == len(found)
  assert all(c.train.seed == 7 and c.data.corpus == 'pydoc' for c in found)


def test_each_option_has_a_variant():
  changed = {k for name in ablation.VARIANTS for k, v in config(name).flat().items() if v != Config().flat()[k]}
  changed |= {k for name in ablation.VARIANTS for k in ablation.options(name).keys() - ablation.BASELINE.keys()}
  assert {f.name for group in (ModelConfig, TrainConfig) for f in dataclasses.fields(group)} <= changed | NO_TIPS


@pytest.mark.parametrize('name,steps', [('baseline', 1200), ('chunks of 16', 4800), ('chunks of 128', 600),
                                        ('overlap by half', 1200), ('chunks of 32, 64, 96 in turn', 1200)])
def test_the_budget_is_in_tokens(name, steps):
  assert config(name).train.steps == steps


def test_what_is_added_to_another_variant_has_its_flags_too():
  assert ablation.options('lstm, forget bias 0') == {**ablation.BASELINE, 'cell': 'lstm', 'forget_bias': 0.0}
  assert 'input_units' not in ablation.options('no input layer')


def test_another_baseline(tmp_path, monkeypatch, capsys):
  seen = {}

  def measure(run, threads):
    seen[run['variant']] = set(run['flags'])
    return {'valid': 2.0, 'speed': 1.0, 'parameters': 1}

  def main(*flags):
    monkeypatch.setattr('sys.argv', ['ablation', '--corpus=pydoc', '--seeds=1', '--steps=1200', f'--out={tmp_path}',
                                     '--only=baseline;chunks of 32', *flags])
    ablation.main()

  monkeypatch.setattr(ablation, 'measure', measure)
  main('--units=224', '--chunk_length=16')
  assert {'--units=224', '--chunk_length=16', '--steps=1200'} <= seen['baseline']
  assert {'--units=224', '--chunk_length=32', '--steps=600'} <= seen['chunks of 32']
  for refused in '--nolayer_norm', '--seed=3', '--epochs=2':
    with pytest.raises(SystemExit):
      main(refused)
    assert f'{refused.partition("=")[0]}: ' in capsys.readouterr().err


def run(variant, seed, valid, speed=1000.0):
  return {'variant': variant, 'seed': seed, 'valid': valid, 'speed': speed, 'parameters': 1234}


RUNS = [run('baseline', 0, 2.0), run('lstm', 0, 2.5), run('lstm, cell norm', 0, 2.45), run('zoneout', 0, 2.1),
        run('baseline', 1, 2.2), run('lstm', 1, 2.9, 500.0), run('lstm, cell norm', 1, 2.55),
        {'variant': 'zoneout', 'seed': 1, 'failed': 'not finite'}, {'variant': 'sgd', 'seed': 0, 'failed': 'no | end'}]


def test_the_table():
  """Variances: 0.02, 0.08, 0.005; two seeds are beyond 2 spreads by chance in 1 of 20."""
  rows, one = ablation.summarise(RUNS)
  assert one == pytest.approx((0.02 / (7 / 9)**3)**0.5)
  _, _, *lines = ablation.table(rows, one).splitlines()
  assert lines == [
      '| baseline | 2.1000 ± 0.1414 |  |  |  |  | 1,000 | 1,234 |',
      '| lstm | 2.7000 ± 0.2828 | baseline | +0.6000 | +2.9 | worse | 750 | 1,234 |',
      '| lstm, cell norm | 2.5000 ± 0.0707 | lstm | -0.2000 | -1.0 | none seen | 1,000 | 1,234 |',
      '| zoneout | 2.1000 (1 failed) | baseline | +0.1000 | +0.5 | none seen | 1,000 | 1,234 |',
      '| sgd | failed: no / end |  |  |  |  |  |  |', '', 'One spread is 0.2062 nats.']


@pytest.mark.parametrize('start', ['free', 'cold'])
def test_the_tables_of_what_follows_on_a_start(start):
  after = {start: [1 + i / 10 for i in range(20)], 'other': [0.0] * 20}
  runs = [run(name, 0, 2.0) | after for name in ('multi-step loss', 'baseline')] + [run('lstm', 0, 2.0)]
  *_, line, last = ablation.table_after(runs, start).splitlines()
  assert line == '| baseline | 1.0000 | 1.1000 | 1.4000 | 1.9000 | 2.9000 | 1,000 |'
  assert last.startswith('| multi-step loss | ')


def test_chance_alone_is_seen_in_one_of_twenty():
  """Of 2,000 variants that change nothing, in tables of 40 with two and three seeds."""
  random = np.random.default_rng(0)
  names = [n for n in ablation.VARIANTS if n == 'baseline' or ablation.against(n) == 'baseline'][:41]
  for seeds in 2, 3:
    seen = 0
    for _ in range(50):
      values = 1.6 + 0.005 * random.normal(size=(41, seeds))
      rows, one = ablation.summarise([run(name, seed, values[i, seed])
                                      for i, name in enumerate(names) for seed in range(seeds)])
      seen += ablation.table(rows, one).count('better') + ablation.table(rows, one).count('worse')
    assert 0.03 < seen / 2000 < 0.08, seen


def test_the_table_of_one_seed():
  rows, one = ablation.summarise(RUNS[:2])
  assert one is None
  assert '| lstm | 2.5000 | baseline | +0.5000 |  |  | 1,000 | 1,234 |' in ablation.table(rows, one)


def test_a_stopped_ablation_goes_on(tmp_path, monkeypatch, capsys):
  trained, out = [], tmp_path / 'out'

  def measure(run, threads):
    if len(trained) == 3:
      raise KeyboardInterrupt
    trained.append(run['flags'])
    return {'valid': 2.0 + 0.1 * len(trained), 'speed': 1.0, 'parameters': 5}

  monkeypatch.setattr(ablation, 'measure', measure)
  monkeypatch.setattr('sys.argv', ['ablation', '--corpus=a', '--seeds=2', '--jobs=1', '--only=lstm;baseline',
                                   f'--out={out}'])
  with pytest.raises(KeyboardInterrupt):
    ablation.main()
  assert [next(f for f in flags if 'seed' in f) for flags in trained] == ['--seed=0', '--seed=0', '--seed=1']
  assert '| lstm | 2.2000 ' in (out / 'table.md').read_text() and (out / 'plot.png').exists()
  with open(out / 'runs.jsonl', 'a') as file:
    file.write('{"variant": "lst')  # as a kill leaves it
  first, *trained[:] = trained
  ablation.main()
  assert len(trained) == 3 and first not in trained
  assert '| lstm | 2.2500 ± 0.0707 | baseline | +0.0500 |' in capsys.readouterr().out
  ablation.main()
  assert len(trained) == 3
