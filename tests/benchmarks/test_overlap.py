"""The table of overlaps: means, spreads, and differences between runs of one seed."""
from benchmarks import overlap


def run(budget, tokens, seed, valid):
  line = {'step': 10, 'tokens': 1000 + seed, 'epoch': 0.5, 'seconds': 3.0}
  return {'budget': budget, 'overlap': tokens, 'chunk_length': 8, 'seed': seed, 'valid': valid, 'metrics': [{}, line]}


def test_the_table():
  runs = [run('steps=10', 0, 0, 2.0), run('steps=10', 4, 0, 1.5), run('steps=10', 0, 1, 2.2),
          run('steps=10', 4, 1, 1.7), run('minutes=1', 0, 0, 3.0)]
  *_, plain, half, other = overlap.table(runs).splitlines()
  assert plain == ('| steps=10 | 0 of 8 | 10 | 1,000 | 0.50 | 3 | 2.1000 ± 0.1414 | 0.0000 ± 0.0000 |')
  assert half == ('| steps=10 | 4 of 8 | 10 | 1,000 | 0.50 | 3 | 1.6000 ± 0.1414 | -0.5000 ± 0.0000 |')
  assert other == '| minutes=1 | 0 of 8 | 10 | 1,000 | 0.50 | 3 | 3.0000 | 0.0000 |'
