"""Slow, obvious twins in NumPy float64 of what the program does fast."""
import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def layer_norm(x, gain, bias=0.0, epsilon=1e-5):
  """Layer norm over the last axis (Ba, Kiros, Hinton 2016)."""
  mean = x.mean(-1, keepdims=True)
  variance = ((x - mean)**2).mean(-1, keepdims=True)
  return gain * (x - mean) / np.sqrt(variance + epsilon) + bias


def gru_layer(x, h, U, gain, bias):
  """Layer-norm GRU: x [T, B, 3H], h [B, H], U [H, 3H], gain [3H], bias [H] -> states [T, B, H].

  x is the input's share, normalised, with its biases; columns are in the order (r, z, c).
  """
  H = h.shape[-1]
  states = []
  for x_t in x:
    gates = sigmoid(x_t[:, :2 * H] + layer_norm(h @ U[:, :2 * H], gain[:2 * H]))
    r, z = gates[:, :H], gates[:, H:]
    c = np.tanh(x_t[:, 2 * H:] + r * layer_norm(h @ U[:, 2 * H:], gain[2 * H:], bias))
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
