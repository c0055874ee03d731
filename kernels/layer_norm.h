// Layer norm of products for one instruction set, for some rows. Included after products.h.

INLINE float inverse_rms(Vec squares, long count) { return 1.0f / __builtin_sqrtf(sum(squares) / count + 1e-5f); }

// Normalises products a [rows, columns] in groups of columns, in place where `normal` is null:
// y = normal gain + bias, normal = a / rms(a). `normal` and `inverses` [rows, groups] are kept where not null.
static void normalise(const NormGroups& groups, long rows, const float* gain, const float* bias, float* y,
                      float* normal, float* inverses) {
  for (long row = 0; row < rows; ++row, y += groups.columns, normal += normal ? groups.columns : 0)
    for (long i = 0, first = 0; i < groups.count; first += groups.sizes[i++]) {
      const long size = groups.sizes[i];
      Vec squares = {};
      for_vectors(size, EACH { const Vec v = load(y + first + j, n); squares += v * v; });
      const float inverse = inverse_rms(squares, size);
      for_vectors(size, EACH {
        const Vec v = load(y + first + j, n) * inverse;
        if (normal) store(normal + first + j, v, n);
        store(y + first + j, v * load(gain + first + j, n) + load(bias + first + j, n), n);
      });
      if (inverses) inverses[row * groups.count + i] = inverse;
    }
}

// The gradient of `normalise`: of the products, and added to those of gain and bias.
static void normalise_gradient(const NormGroups& groups, long rows, const float* dy, const float* normal,
                               const float* inverses, const float* gain, float* da, float* dgain, float* dbias) {
  for (long row = 0; row < rows; ++row, dy += groups.columns, normal += groups.columns, da += groups.columns)
    for (long i = 0, first = 0; i < groups.count; first += groups.sizes[i++]) {
      const long size = groups.sizes[i];
      Vec total = {};
      for_vectors(size, EACH {
        const long k = first + j;
        const Vec d = load(dy + k, n), v = load(normal + k, n), slope = d * v;
        store(dgain + k, load(dgain + k, n) + slope, n);
        store(dbias + k, load(dbias + k, n) + d, n);
        total += slope * load(gain + k, n);
      });
      const float mean = sum(total) / size, inverse = inverses[row * groups.count + i];
      for_vectors(size, EACH {
        const long k = first + j;
        store(da + k, inverse * (load(dy + k, n) * load(gain + k, n) - mean * load(normal + k, n)), n);
      });
    }
}
