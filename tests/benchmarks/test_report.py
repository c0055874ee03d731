"""The arithmetic of the benchmarks' table, and that the sides take turns."""
import itertools

import pytest

from benchmarks import alternation, report
from benchmarks.report import Goal, Pair, Row


def test_sides_take_turns():
  log, slower = [], itertools.count()

  def ask(task, options):
    log.append(task)
    return {'count': 12, 'first_seconds': 9, 'seconds': next(slower)}

  works = [alternation.Work(ask, task) for task in 'AB']
  alternation.alternate(works, 3, note=lambda _: None)
  assert ''.join(log) == 'AB' + 3 * 'AB'
  assert [work.seconds for work in works] == [[2, 4, 6], [3, 5, 7]], 'the first run only warms up'
  assert report.speed(works[0]) == Pair(best=6, median=3)


def test_training_flops_are_those_of_every_product():
  B, T, V, E, I, H = 3, 5, 7, 11, 13, 17
  products = [(V, E, I), (V, I, 3 * H),  # the table of the first layer's input
              (B * T, H, 3 * H),  # the first layer's state
              (B * T, H, 3 * H), (B * T, H, 3 * H),  # the second layer
              (B * T, H, V)]
  once = sum(2 * m * k * n for m, k, n in products)
  flops = report.training_flops(units=H, layers=2, vocab_size=V, embedding_size=E, batch_size=B, chunk_length=T,
                                input_units=I, input_layers=1)
  assert flops == pytest.approx(3 * once / (B * T))


@pytest.mark.parametrize('layers, size', [(0, 11), (1, 13)])
def test_training_flops_of_input_layers(layers, size):
  given = dict(units=17, layers=1, vocab_size=7, embedding_size=11, batch_size=7, chunk_length=1, input_units=13)
  table = layers * 11 * 13 + size * 3 * 17
  assert report.training_flops(**given, input_layers=layers) == 6 * (3 * 17**2 + 17 * 7 + table)


@pytest.mark.parametrize('sign, figure, met', [
  ('>=', Pair(1.2, 1.3), 'yes'), ('>=', Pair(1.2, 1.1), 'best only'), ('>=', Pair(1.1, 1.1), 'no'),
  ('<=', Pair(1.2, 1.1), 'yes'), ('<=', Pair(1.3, 1.2), 'median only'), ('<=', Pair(1.3, 1.4), 'no'),
])
def test_goals(sign, figure, met):
  assert Goal(sign, 1.2).met(figure) == met


def test_table():
  rows = [Row('train, tokens/s', Pair(12000.4, 6000.0), 'nn.GRU', Pair(8000, 8000), Pair(1.5, 0.75), Goal('>=', 1.2)),
          Row('memory, MB', Pair(1600, 1600), goal=Goal('<=', 1500))]
  assert report.table(rows).splitlines()[2:] == [
    '| train, tokens/s | 12,000 / 6,000        | nn.GRU | 8,000             | 1.50 / 0.75 | >= 1.2  | best only |',
    '| memory, MB      | 1,600                 |        |                   |             | <= 1500 | no        |']
  assert rows[0].asdict()['judged'] == {'best': 1.5, 'median': 0.75}


def test_spread():
  assert report.spread([Pair(8, 1), Pair(10, 1), Pair(12, 1)]) == Pair(pytest.approx(0.2), 0)
