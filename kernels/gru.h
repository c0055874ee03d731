// The layer-norm GRU of recurrence.py and cells.py for one instruction set, for some rows of the batch. No row depends
// on another: threads wait for each other only where the gradient of U is summed. Included after layer_norm.h.

INLINE Vec factor(const unsigned char* mask, long at, float scale, long n) {
  Vec v = Vec{} + scale;
  if (!mask) return v;
  typedef unsigned char Bytes __attribute__((vector_size(LANES)));
  Bytes bytes = {};
  __builtin_memcpy(&bytes, mask + at, n);
  return v * __builtin_convertvector(bytes, Vec);
}

// The gates of token `t`, for rows `first` to `last`: a [last - first, stride] = h U -> states and, where `saved` is
// not null, what the gradient needs.
static void gru_gates(const Gru& g, long t, long first, long last, const float* a, long stride) {
  const long units = g.units;
  const float* before = t ? g.states + (t - 1) * g.batch * units : g.start;
  for (long row = first; row < last; ++row, a += stride) {
    const long at = t * g.batch + row;
    const float *x = g.x + (g.tokens ? g.tokens[at] : at) * 3 * units, *h = before + row * units;
    float *after = g.states + at * units, *saved = g.saved ? g.saved + at * 6 * units : nullptr;
    Vec squares = {}, candidate_squares = {};
    for_vectors(2 * units, EACH { const Vec v = load(a + j, n); squares += v * v; });
    for_vectors(units, EACH { const Vec v = load(a + 2 * units + j, n); candidate_squares += v * v; });
    const float gates = inverse_rms(squares, 2 * units), candidate = inverse_rms(candidate_squares, units);
    for_vectors(units, EACH {
      const Vec n_r = load(a + j, n) * gates, n_z = load(a + units + j, n) * gates;
      const Vec n_c = load(a + 2 * units + j, n) * candidate;
      const Vec r = sigmoid(load(x + j, n) + n_r * load(g.gain + j, n));
      const Vec z = sigmoid(load(x + units + j, n) + n_z * load(g.gain + units + j, n));
      const Vec a_c = n_c * load(g.gain + 2 * units + j, n) + load(g.bias + j, n);
      const Vec c = tanh_of(load(x + 2 * units + j, n) + r * a_c);
      const Vec h_j = load(h + j, n), open = z * factor(g.update_mask, at * units + j, g.update_scale, n);
      const Vec new_c = c * factor(g.candidate_mask, at * units + j, g.candidate_scale, n);
      store(after + j, h_j + open * (new_c - h_j), n);
      if (saved) {
        store(saved + j, n_r, n);
        store(saved + units + j, n_z, n);
        store(saved + 2 * units + j, n_c, n);
        store(saved + 3 * units + j, r, n);
        store(saved + 4 * units + j, z, n);
        store(saved + 5 * units + j, c, n);
      }
    });
    if (saved) {
      g.inverses[2 * at] = gates;
      g.inverses[2 * at + 1] = candidate;
    }
  }
}

static long forward_scratch(long rows, long units) { return rows * panels(3 * units) * kPanel; }

// All tokens of rows `first` to `last`. `packed`: U.
static void gru_forward(const Gru& g, const float* packed, long first, long last, float* scratch) {
  const long units = g.units, stride = panels(3 * units) * kPanel;
  for (long t = 0; t < g.steps; ++t) {
    const float* before = t ? g.states + (t - 1) * g.batch * units : g.start;
    multiply_panels(last - first, units, stride, before + first * units, packed, 0, panels(3 * units), scratch, stride);
    gru_gates(g, t, first, last, scratch, stride);
  }
}

// Normal values v = a / rms(a) [size], and their gradients d -> those of a, in place; total: the sum of v d.
INLINE void rms_gradient(const float* normal, long size, float total, float inverse, float* d) {
  const float mean = total / size;
  for_vectors(size, EACH { store(d + j, inverse * (load(d + j, n) - mean * load(normal + j, n)), n); });
}

// The gradient of `gru_gates` for one token of one row, `at` of [T, B]: of the product h U -> dproduct [3H], of h but
// for that product, in place of that of the state after it -> dh [H], and added to gain and bias. h: state before it.
static void gru_gates_gradient(const Gru& g, long at, const float* h, float* dh, float* dproduct,
                               const GruGradients& gradients) {
  const long units = g.units;
  const float *saved = g.saved + at * 6 * units, *dstate = g.dstates + at * units;
  float *dgain = gradients.dgain, *dbias = gradients.dbias;
  float* dx = gradients.dx + (g.tokens ? g.tokens[at] : at) * 3 * units;
  Vec gates_sum = {}, candidate_sum = {};
  for_vectors(units, EACH {
    const Vec n_r = load(saved + j, n), n_z = load(saved + units + j, n), n_c = load(saved + 2 * units + j, n);
    const Vec r = load(saved + 3 * units + j, n), z = load(saved + 4 * units + j, n);
    const Vec c = load(saved + 5 * units + j, n), dh_j = load(dh + j, n) + load(dstate + j, n);
    const Vec gain_c = load(g.gain + 2 * units + j, n);
    const Vec z_factor = factor(g.update_mask, at * units + j, g.update_scale, n), open = z * z_factor;
    const Vec c_factor = factor(g.candidate_mask, at * units + j, g.candidate_scale, n);
    const Vec dz = dh_j * (c * c_factor - load(h + j, n)) * z_factor * z * (1.0f - z);
    const Vec dc = dh_j * open * c_factor * (1.0f - c * c);
    const Vec dr = dc * (n_c * gain_c + load(g.bias + j, n)) * r * (1.0f - r), da_c = dc * r;
    store(dx + j, g.tokens ? load(dx + j, n) + dr : dr, n);
    store(dx + units + j, g.tokens ? load(dx + units + j, n) + dz : dz, n);
    store(dx + 2 * units + j, g.tokens ? load(dx + 2 * units + j, n) + dc : dc, n);
    store(dgain + j, load(dgain + j, n) + dr * n_r, n);
    store(dgain + units + j, load(dgain + units + j, n) + dz * n_z, n);
    store(dgain + 2 * units + j, load(dgain + 2 * units + j, n) + da_c * n_c, n);
    store(dbias + j, load(dbias + j, n) + da_c, n);
    const Vec dn_r = dr * load(g.gain + j, n), dn_z = dz * load(g.gain + units + j, n), dn_c = da_c * gain_c;
    gates_sum += dn_r * n_r + dn_z * n_z;
    candidate_sum += dn_c * n_c;
    store(dproduct + j, dn_r, n);
    store(dproduct + units + j, dn_z, n);
    store(dproduct + 2 * units + j, dn_c, n);
    store(dh + j, dh_j * (1.0f - open), n);
  });
  rms_gradient(saved, 2 * units, sum(gates_sum), g.inverses[2 * at], dproduct);
  rms_gradient(saved + 2 * units, units, sum(candidate_sum), g.inverses[2 * at + 1], dproduct + 2 * units);
}

// The gradients of tokens `begin` to `end`, from the last on, for rows `first` to `last`. `packed`: U^T as one block.
static void gru_backward(const Gru& g, const float* packed, long begin, long end, long first, long last,
                         const GruGradients& gradients, const GruSteps& steps) {
  const long units = g.units, rows = last - first, stride = panels(units) * kPanel;
  float* dh = steps.dh + first * stride;
  for (long t = end - 1; t >= begin; --t) {
    const long at = (end - 1 - t) * g.batch + first;
    const float* before = (t ? g.states + (t - 1) * g.batch * units : g.start) + first * units;
    float* dproduct = steps.dproduct + at * 3 * units;
    __builtin_memcpy(steps.before + at * units, before, rows * units * 4);
    for (long row = 0; row < rows; ++row)
      gru_gates_gradient(g, t * g.batch + first + row, before + row * units, dh + row * stride,
                         dproduct + row * 3 * units, gradients);
    for (long p = 0; p < panels(units); ++p)
      tiles(rows, dproduct, 3 * units, 1, packed + p * 3 * units * kPanel, 3 * units, dh + p * kPanel, stride,
            kPanel, true);
  }
  for (long row = 0; !begin && row < rows; ++row)
    __builtin_memcpy(g.dstart + (first + row) * units, dh + row * stride, units * 4);
}
