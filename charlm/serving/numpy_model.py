"""A model of `charlm-export --format=safetensors` in NumPy: every cell and structure, one token at a time.

    python numpy_model.py 'It was'

It needs numpy and safetensors, and of its folder model.safetensors, charlm.json and vocab.json.
"""
import json
import pathlib
import sys
from typing import Any

import numpy as np
from safetensors.numpy import load_file

State = list[list[np.ndarray]]  # of each layer [h], or [h, c] of an LSTM


def sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 * np.tanh(0.5 * x) + 0.5


class Model:
  """Reads tokens and predicts the next."""

  def __init__(self, folder: str | pathlib.Path) -> None:
    """folder: of the export."""
    self.folder = folder = pathlib.Path(folder)
    self.weights, facts = load_file(folder / 'model.safetensors'), json.loads((folder / 'charlm.json').read_text())
    self.config, self.empty_prompt, self.kind = facts['config']['model'], facts['empty_prompt'], facts['tokenizer']
    self.pieces = [bytes(piece) for piece in json.loads((folder / 'vocab.json').read_text())]
    self.groups = [2, 1] if self.config['cell'] == 'gru' else [4]  # gates that layer norm takes together
    # What a unit keeps of its old value: in training zoneout is drawn in steps of 1/256.
    self.keep_h, self.keep_c = (round(256 * self.config[name]) / 256 for name in ('zoneout_output', 'zoneout'))
    parts = ['initial_h'] if self.config['cell'] == 'gru' else ['initial_h', 'initial_c']
    self.initial: State = [[self.weights[f'layers.{i}.{part}'] for part in parts] for i in range(self.config['layers'])]

  def step(self, token: int, state: State) -> tuple[np.ndarray, State]:
    """Reads a token: the logits [V] of the next, and the state after it."""
    w, x = self.weights, self.weights['embedding.weight'][token]
    for i in range(self.config['input_layers']):
      x = np.tanh(self.linear(f'input_layers.{i}', x, [1]))
    outputs: list[Any] = []
    after: State = []
    for i, before in enumerate(state):
      after.append(self.layer(f'layers.{i}', self.below(x, outputs), before))
      outputs.append(after[-1][0])
    if self.config['wiring'] == 'residual':
      outputs = list(np.cumsum(outputs, 0))
    y = {'sum': sum(outputs), 'last': outputs[-1], 'concat': np.concatenate(outputs)}[self.config['combine']]
    if 'output_projection.weight' in w:
      y = w['output_projection.weight'] @ y
    return w['embedding.weight' if self.config['tie_embeddings'] else 'output.weight'] @ y + w['output.bias'], after

  def below(self, x: np.ndarray, outputs: list[Any]) -> list[Any]:
    """What the next layer reads, of the token x and the outputs of the layers below it."""
    wiring, half = self.config['wiring'], self.config['units'] // 2
    if not outputs or wiring == 'dense':
      return [x, *outputs]
    if wiring == 'dual_path':
      return [x, sum(h[:half] for h in outputs), *(h[half:] for h in outputs)]
    return [outputs[-1] if wiring == 'plain' else sum(outputs)]

  def layer(self, name: str, inputs: list[Any], state: list[np.ndarray]) -> list[np.ndarray]:
    """A recurrent layer: its state after it has read the inputs."""
    w, h = self.weights, state[0]
    x: Any = sum(self.linear(f'{name}.input.{j}', y, self.groups) for j, y in enumerate(inputs))
    a = self.linear(f'{name}.recurrent', h, self.groups)
    if f'{name}.norm.weight' in w:  # norm=joint
      x, a = (self.normal(y, x + a, self.groups) * w[f'{name}.norm.weight'] for y in (x, a))
      x += w[f'{name}.norm.bias']
    if self.config['cell'] == 'gru':
      (x_r, x_z, x_n), (a_r, a_z, a_n) = np.split(x, 3), np.split(a, 3)
      n = np.tanh(x_n + sigmoid(x_r + a_r) * (a_n + w[f'{name}.candidate_bias']))
      return [h + (1 - self.keep_c) * sigmoid(x_z + a_z) * (n - h)]
    i, f, g, o = np.split(x + a, 4)
    c = t = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    if f'{name}.cell_norm.weight' in w:
      t = self.normal(c, c, [1]) * w[f'{name}.cell_norm.weight'] + w[f'{name}.cell_norm.bias']
    h = self.keep_h * h + (1 - self.keep_h) * sigmoid(o) * np.tanh(t)
    return [h, self.keep_c * state[1] + (1 - self.keep_c) * c]

  def linear(self, name: str, x: np.ndarray, groups: list[int]) -> np.ndarray:
    """A linear map, with layer norm where it has one."""
    w, y = self.weights, self.weights[f'{name}.weight'] @ x
    if f'{name}.norm.weight' in w:
      y = self.normal(y, y, groups) * w[f'{name}.norm.weight']
    return y + w.get(f'{name}.norm.bias', w.get(f'{name}.bias', 0))

  def normal(self, y: np.ndarray, of: np.ndarray, groups: list[int]) -> np.ndarray:
    """y less its mean, over the standard deviation of `of`, group by group."""
    ends = np.cumsum(groups)[:-1] * len(y) // sum(groups)
    parts = zip(np.split(y, ends), np.split(of, ends), strict=True)
    return np.concatenate([(p - p.mean()) / np.sqrt(q.var() + 1e-5) for p, q in parts])

  def encode(self, text: str) -> list[int]:
    """The tokens of a text."""
    if self.kind == 'sentencepiece':
      import sentencepiece
      model = sentencepiece.SentencePieceProcessor(model_file=str(self.folder / 'tokenizer.model'))
      # SentencePiece takes this character for a space; the text's own are encoded as bytes.
      first, *others = text.split('\u2581')
      mark = [model.piece_to_id(f'<0x{b:02X}>') for b in '\u2581'.encode()]
      return model.encode(first) + [i for part in others for i in mark + model.encode(part)]
    ids = {piece: i for i, piece in enumerate(self.pieces)}
    return list(text.encode()) if self.kind == 'byte' else [ids.get(c.encode(), 0) for c in text]

  def write(self, prompt: str, length: int = 200, temperature: float = 0.8, seed: int = 0) -> str:
    """Goes on from a prompt."""
    random, state, written = np.random.default_rng(seed), self.initial, []
    for token in self.encode(prompt) or self.empty_prompt:
      logits, state = self.step(token, state)
    for _ in range(length):
      written.append(int((logits / max(temperature, 1e-6) + random.gumbel(size=len(logits))).argmax()))
      logits, state = self.step(written[-1], state)
    return b''.join(self.pieces[token] for token in written).decode('utf-8', 'replace')


if __name__ == '__main__':
  print(Model(pathlib.Path(__file__).parent).write(' '.join(sys.argv[1:])))
