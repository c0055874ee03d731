"""Slow, obvious twins in NumPy float64 of what the program does fast."""
import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def layer_norm(x, gain, bias=0.0, epsilon=1e-5):
  """Layer norm over the last axis (Ba, Kiros, Hinton 2016)."""
  mean = x.mean(-1, keepdims=True)
  variance = ((x - mean)**2).mean(-1, keepdims=True)
  return gain * (x - mean) / np.sqrt(variance + epsilon) + bias


def gru_layer(x, h, U, gain, bias, update_factor=1.0, candidate_factor=1.0):
  """Layer-norm GRU: x [T, B, 3H], h [B, H], U [H, 3H], gain [3H], bias [H] -> states [T, B, H].

  x is the input's share, normalised, with its biases; columns are in the order (r, z, c). The factors, [T, B, H] or a
  number, scale update gate and candidate.
  """
  T, B, H = *x.shape[:2], h.shape[-1]
  states = []
  for x_t, m_z, m_c in zip(x, *(np.broadcast_to(m, (T, B, H)) for m in (update_factor, candidate_factor)), strict=True):
    gates = sigmoid(x_t[:, :2 * H] + layer_norm(h @ U[:, :2 * H], gain[:2 * H]))
    r, z = gates[:, :H], gates[:, H:]
    c = np.tanh(x_t[:, 2 * H:] + r * layer_norm(h @ U[:, 2 * H:], gain[2 * H:], bias))
    z, c = m_z * z, m_c * c
    h = (1 - z) * h + z * c
    states.append(h)
  return np.stack(states)


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


def language_model(weights, tokens, states):
  """The language model: tokens [B, T], states a list of [B, H] -> logits [B, T, V], states after each token.

  weights: embedding [V, E]; input, a list of maps; layers, a list of {map, U, gain, bias}; kernel [H, V], bias [V]. A
  map is {W [n, sum(groups)], groups, gain, bias}.
  """
  def linear(x, m):
    edges = np.cumsum(m['groups'])[:-1]
    parts = zip(*(np.split(a, edges, -1) for a in (x @ m['W'], m['gain'], m['bias'])), strict=True)
    return np.concatenate([layer_norm(*part) for part in parts], -1)

  y = weights['embedding'][tokens.T]
  for m in weights['input']:
    y = np.tanh(linear(y, m))
  total, after = 0.0, []
  for layer, state in zip(weights['layers'], states, strict=True):
    y = gru_layer(linear(y, layer['map']), state, layer['U'], layer['gain'], layer['bias'])
    total = total + y
    after.append(y)
  return (total @ weights['kernel'] + weights['bias']).transpose(1, 0, 2), after


def nats(logits, targets):
  """logits [B, T, V], targets [B, T] -> -log softmax(logits)[target], [B, T]."""
  shifted = logits - logits.max(-1, keepdims=True)
  log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  return -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
