"""What accelerator_run.py measures charlm beside: a training step of PyTorch's GRU or LSTM, which cuDNN computes.

    python torch_step.py '{"cell": "gru", "precision": "tf32", ..}'

prints a JSON list, the seconds of a step in each repeat. Forward, gradient, Adam, the state carried; no layer norm and
no clipping.
"""
import contextlib
import json
import sys
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def make_step(*, cell, precision, batch_size, chunk_length, units, layers, vocab_size, embedding_size, device):
  """-> a function that takes a step and returns its loss."""
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == 'tf32'
  parts = (nn.Embedding(vocab_size, embedding_size), getattr(nn, cell.upper())(embedding_size, units, layers),
           nn.Linear(units, vocab_size))
  network = nn.ModuleList(parts).to(device)
  adam = torch.optim.Adam(network.parameters(), 1e-3, fused=device == 'cuda')
  text = torch.randint(vocab_size, (chunk_length + 1, batch_size), device=device)
  state = None
  rounded = torch.autocast(device, torch.bfloat16) if precision == 'bfloat16' else contextlib.nullcontext()

  def step():
    nonlocal state
    embedding, recurrent, readout = network
    with rounded:
      outputs, after = recurrent(embedding(text[:-1]), state)
      logits = readout(outputs)
    loss = cross_entropy(logits.flatten(0, 1).float(), text[1:].flatten())
    adam.zero_grad()
    loss.backward()
    adam.step()
    state = tuple(s.detach() for s in after) if isinstance(after, tuple) else after.detach()
    return loss

  return step


def main():
  options = json.loads(sys.argv[1])
  steps, repeats = options.pop('steps'), options.pop('repeats')
  step = make_step(**options, device='cuda' if torch.cuda.is_available() else 'cpu')
  found = []

  def run(count):
    for _ in range(count):
      loss = step()
    assert torch.isfinite(loss), loss  # waits for the device

  run(5)
  for _ in range(repeats):
    began = time.perf_counter()
    run(steps)
    found.append((time.perf_counter() - began) / steps)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
