"""Slow, obvious twins in NumPy float64 of what the program does fast."""
import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def layer_norm(x, gain, bias=0.0, epsilon=1e-5):
  """Layer norm over the last axis (Ba, Kiros, Hinton 2016)."""
  mean = x.mean(-1, keepdims=True)
  variance = ((x - mean)**2).mean(-1, keepdims=True)
  return gain * (x - mean) / np.sqrt(variance + epsilon) + bias


def recurrent_maps(x, p, gain, groups, norm):
  """The input's and the state's maps x and p [B, kH] as a cell takes them, by groups of columns.

  separate: x is normalised already, p is here. joint: both by the mean and variance of their sum, so that x + p becomes
  LN(x + p). none: as they are.
  """
  if norm == 'none':
    return x, p
  edges, results = np.cumsum(groups)[:-1], []
  for x_g, p_g, *weights in zip(*(np.split(m, edges, -1) for m in (x, p, *np.atleast_2d(gain))), strict=True):
    if norm == 'separate':
      results.append((x_g, layer_norm(p_g, *weights)))
    else:
      scale = weights[0] / np.sqrt((x_g + p_g).var(-1, keepdims=True) + 1e-5)
      results.append((scale * (x_g - x_g.mean(-1, keepdims=True)) + weights[1],
                      scale * (p_g - p_g.mean(-1, keepdims=True))))
  return (np.concatenate(m, -1) for m in zip(*results, strict=True))


def gru_layer(x, h, U, gain, bias, update_factor=1.0, candidate_factor=1.0, norm='separate'):
  """GRU: x [T, B, 3H], h [B, H], U [H, 3H], gain [3H], joint [2, 3H], bias [H] -> states [T, B, H].

  x is the input's share; columns are in the order (r, z, c). The factors, [T, B, H] or a number, scale update gate and
  candidate.
  """
  T, B, H = *x.shape[:2], h.shape[-1]
  states = []
  for x_t, m_z, m_c in zip(x, *(np.broadcast_to(m, (T, B, H)) for m in (update_factor, candidate_factor)), strict=True):
    x_t, a = recurrent_maps(x_t, h @ U, gain, (2 * H, H), norm)
    gates = sigmoid(x_t[:, :2 * H] + a[:, :2 * H])
    r, z = gates[:, :H], gates[:, H:]
    c = np.tanh(x_t[:, 2 * H:] + r * (a[:, 2 * H:] + bias))
    z, c = m_z * z, m_c * c
    h = (1 - z) * h + z * c
    states.append(h)
  return np.stack(states)


def lstm_layer(x, state, U, gain, own, cell_factor=1.0, candidate_factor=1.0, output_factor=1.0, norm='separate'):
  """LSTM: x [T, B, 4H], state (h, c), each [B, H], U [H, 4H] -> states (h, c), each [T, B, H].

  Columns are in the order (i, f, g, o). own: () or gain and bias of the cell's layer norm. Of the changes of cell and
  output, the factors' share is made.
  """
  h, c = state
  factors = [np.broadcast_to(m, (len(x), *h.shape)) for m in (cell_factor, candidate_factor, output_factor)]
  states = []
  for x_t, m_c, m_g, m_h in zip(x, *factors, strict=True):
    x_t, a = recurrent_maps(x_t, h @ U, gain, (U.shape[1],), norm)
    i, f, g, o = np.split(x_t + a, 4, -1)
    full = sigmoid(f) * c + sigmoid(i) * m_g * np.tanh(g)
    output = sigmoid(o) * np.tanh(layer_norm(full, *own) if len(own) else full)
    h, c = (1 - m_h) * h + m_h * output, (1 - m_c) * c + m_c * full
    states.append((h, c))
  return tuple(np.stack(s) for s in zip(*states, strict=True))


LAYERS = {'gru': gru_layer, 'lstm': lstm_layer}


def gradient(function, arguments, delta=1e-5):
  """Central differences of a scalar function, one number at a time: -> an array like each argument."""
  result = []
  for argument in arguments:
    slopes = np.zeros_like(argument)
    for i in np.ndindex(argument.shape):
      kept = argument[i]
      argument[i] = kept + delta
      above = function(*arguments)
      argument[i] = kept - delta
      slopes[i] = (above - function(*arguments)) / (2 * delta)
      argument[i] = kept
    result.append(slopes)
  return result


def read_below(wiring, x, outputs):
  """What the next layer reads: a list, each with a map of its own."""
  if not outputs:
    return [x]
  half = outputs[0].shape[-1] // 2
  return {'plain': [outputs[-1]], 'residual': [sum(outputs)], 'dense': [x, *outputs],
          'dual_path': [x, sum(h[..., :half] for h in outputs), *(h[..., half:] for h in outputs)]}[wiring]


def language_model(weights, tokens, states, *, cell='gru', norm='separate', wiring='plain', combine='sum',
                   factor=lambda flag, layer=0: 1.0):
  """The language model: tokens [B, T], a state per layer -> logits [B, T, V], features, states after each token.

  weights: embedding [V, E]; input, a list of maps; layers, a list of {maps, U, gain, cell}; kernels, a list of
  matrices; bias [V]. A map is {W [n, sum(groups)], groups, gain, bias}. factor: (flag, layer) -> what is multiplied
  with there.
  """
  def linear(x, m, norm):
    y = x @ m['W']
    if norm == 'separate':
      edges = np.cumsum(m['groups'])[:-1]
      y = np.concatenate([layer_norm(part, gain) for part, gain in zip(
          np.split(y, edges, -1), np.split(m['gain'], edges), strict=True)], -1)
    return y if norm == 'joint' else y + m['bias']

  x = (weights['embedding'] * factor('embedding_dropout'))[tokens.T]
  for m in weights['input']:
    x = np.tanh(linear(x, m, 'none' if norm == 'none' else 'separate'))
  x, outputs, upward, after = x * factor('input_dropout'), [], [], []
  masks = {'gru': ('zoneout', 'recurrent_dropout'), 'lstm': ('zoneout', 'recurrent_dropout', 'zoneout_output')}[cell]
  for i, (layer, state) in enumerate(zip(weights['layers'], states, strict=True)):
    read = zip(read_below(wiring, x, upward), layer['maps'], strict=True)
    maps = sum(linear(y, m, norm) for y, m in read)
    U = layer['U'] * factor('weight_drop', i)
    after.append(LAYERS[cell](maps, state, U, layer['gain'], layer['cell'], *(factor(m, i) for m in masks), norm=norm))
    h = after[-1][0] if cell == 'lstm' else after[-1]
    outputs.append(h * factor('dropout', i))
    upward.append(outputs[-1] * factor('layer_dropout', i))
  if wiring == 'residual':
    outputs = list(np.cumsum(outputs, 0))
  features = {'sum': sum(outputs), 'last': outputs[-1], 'concat': np.concatenate(outputs, -1)}[combine]
  features = features * factor('output_dropout')
  logits = features
  for kernel in weights['kernels']:
    logits = logits @ kernel
  return (logits + weights['bias']).transpose(1, 0, 2), features, after


def nats(logits, targets):
  """logits [B, T, V], targets [B, T] -> -log softmax(logits)[target], [B, T]."""
  shifted = logits - logits.max(-1, keepdims=True)
  log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  return -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]


def token_probabilities(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
  """[V] -> [V]: the probabilities of the token to write; of equally likely ones the lowest ids stay."""
  order = np.argsort(-logits, kind='stable')
  if temperature == 0:
    return np.eye(len(logits))[order[0]]
  p = np.exp((logits - logits.max()) / np.float64(temperature))
  p /= p.sum()
  before = np.concatenate([[0], np.cumsum(p[order])[:-1]])
  kept = order[(np.arange(len(p)) < (top_k or len(p))) & ((before < top_p) | (top_p == 1))]
  p = np.where(np.isin(np.arange(len(p)), kept) & (p >= min_p * p.max()), p, 0)
  return p / p.sum()
