"""What charlm is measured beside: the same work with PyTorch's recurrent layers. Served to run.py; see alternation.py.

    GRU, LSTM           PyTorch's own layers, fused, with no layer norm
    LayerNormGRU        charlm's equations (charlm/cells.py) in a Python loop over tokens, as PyTorch has no such layer:
                        the input's maps for all tokens at once, read by index
    TunedLayerNormGRU   the same by one who knows the trap in that: read by `unbind`
"""
import functools

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks import alternation


class LayerNormLayer(nn.Module):
  def __init__(self, size, units, tuned):
    super().__init__()
    self.units, self.tuned = units, tuned
    self.maps = nn.ModuleList([nn.Linear(n, 3 * units, bias=False) for n in (size, units)])
    self.norms = nn.ModuleList([nn.LayerNorm(n) for _ in self.maps for n in (2 * units, units)])

  def _map(self, which, x):
    gates, candidate = self.maps[which](x).split([2 * self.units, self.units], -1)
    return self.norms[2 * which](gates), self.norms[2 * which + 1](candidate)

  def _inputs(self, x):
    """The input's part of each token. The gradient of gates[t] is as large as gates, T times; that of unbind is not."""
    gates, candidates = self._map(0, x)
    if self.tuned:
      return zip(gates.unbind(), candidates.unbind(), strict=True)
    return ((gates[t], candidates[t]) for t in range(len(x)))

  def forward(self, x, h):
    outputs = []
    for x_gates, x_candidate in self._inputs(x):
      gates, candidate = self._map(1, h)
      r, z = torch.sigmoid(x_gates + gates).chunk(2, -1)
      h = torch.lerp(h, torch.tanh(x_candidate + r * candidate), z)
      outputs.append(h)
    return torch.stack(outputs), h


class LayerNormGRU(nn.Module):
  """Stacked as charlm stacks: the outputs of all layers are summed."""

  def __init__(self, size, units, layers, tuned=False):
    super().__init__()
    self.stack = nn.ModuleList([LayerNormLayer(units if i else size, units, tuned) for i in range(layers)])

  def forward(self, x, state):
    total, after = 0, []
    for layer, h in zip(self.stack, state, strict=True):
      x, h = layer(x, h)
      total = total + x
      after.append(h)
    return total, torch.stack(after)


CELLS = {'GRU': nn.GRU, 'LSTM': nn.LSTM, 'LayerNormGRU': LayerNormGRU,
         'TunedLayerNormGRU': functools.partial(LayerNormGRU, tuned=True)}


class Network(nn.Module):
  def __init__(self, cell, *, vocab_size, embedding_size, units, layers):
    super().__init__()
    self.embedding = nn.Embedding(vocab_size, embedding_size)
    self.recurrent = CELLS[cell](embedding_size, units, layers)
    self.readout = nn.Linear(units, vocab_size)
    self.state_shape, self.parts = (layers, units), 2 if cell == 'LSTM' else 1

  def initial_state(self, rows):
    layers, units = self.state_shape
    state = tuple(torch.zeros(layers, rows, units) for _ in range(self.parts))
    return state if self.parts > 1 else state[0]

  def forward(self, tokens, state):
    """tokens [T, B] -> logits [T, B, V], state."""
    outputs, state = self.recurrent(self.embedding(tokens), state)
    return self.readout(outputs), state


def train(cell, *, batch_size, chunk_length, steps, **sizes):
  """Forward, gradient, Adam; the state is carried from chunk to chunk."""
  network = Network(cell, **sizes)
  adam = torch.optim.Adam(network.parameters(), 1e-3)
  text = torch.randint(sizes['vocab_size'], (chunk_length + 1, batch_size))
  state = network.initial_state(batch_size)

  def step():
    nonlocal state
    logits, after = network(text[:-1], state)
    loss = cross_entropy(logits.flatten(0, 1), text[1:].flatten())
    adam.zero_grad()
    loss.backward()
    adam.step()
    state = tuple(s.detach() for s in after) if isinstance(after, tuple) else after.detach()
    return loss.item()

  return lambda: [step() for _ in range(steps)], steps * batch_size * chunk_length


def sample(cell, *, rows, length, **sizes):
  """Writes `length` tokens in each of `rows` texts, a token at a time."""
  network = Network(cell, **sizes).eval()
  state, tokens = network.initial_state(rows), torch.zeros(1, rows, dtype=torch.long)

  @torch.inference_mode()
  def run():
    nonlocal state, tokens
    for _ in range(length):
      logits, state = network(tokens, state)
      tokens = torch.multinomial(torch.softmax(logits[0] / 0.8, -1), 1).t()

  return run, rows * length


def product(size):
  """One large matrix product, in floating point operations."""
  a, b = torch.randn(size, size), torch.randn(size, size)
  return lambda: a @ b, 2 * size**3


if __name__ == '__main__':
  alternation.serve({'train': train, 'sample': sample, 'product': product})
