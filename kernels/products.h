// Vectors and matrix products for one instruction set. instruction_sets.h includes this once for each, in a namespace
// of its own, with LANES floats in a vector and tiles of TILE_ROWS x 3 vectors: accumulators, a row of b and one number
// of a just fit the registers. No include guard, and no inline function of the standard library: the linker would keep
// one instruction set's copy for all.

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int IntVec __attribute__((vector_size(LANES * 4)));

constexpr long kPanel = 3 * LANES;    // columns of a tile
constexpr long kBlock = 256;          // how far a tile goes along the summed dimension: a panel of B stays in L1
constexpr long kRowBlock = 32 * TILE_ROWS;  // rows of A that stay in L2

INLINE Vec load(const float* p, long n) {
  Vec v = {};
  __builtin_memcpy(&v, p, n * 4);
  return v;
}

INLINE void store(float* p, Vec v, long n) { __builtin_memcpy(p, &v, n * 4); }

INLINE float sum(Vec v) {
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += v[i];
  return total;
}

// Calls body(first, count) for each vector of `size` numbers; count is a constant in all but the last.
template <class Body>
INLINE void for_vectors(long size, const Body& body) {
  long j = 0;
  for (; j + LANES <= size; j += LANES) body(j, long{LANES});
  if (j < size) body(j, size - j);
}

// e^x to 2e-7: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
INLINE Vec exponential(Vec x) {
  const Vec low = Vec{} - 87.0f, high = Vec{} + 87.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = x * 1.44269504f + magic;
  const Vec n = shifted - magic;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  Vec p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return (Vec)((IntVec)p + ((IntVec)shifted << 23));
}

INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE Vec tanh_of(Vec x) { return 1.0f - 2.0f / (1.0f + exponential(x + x)); }

// A tile of products: c[r, :] (+)= sum over k of a[r * a_row + k * a_step] * b[k, :], b a panel [count, kPanel].
template <int R>
INLINE void tile(const float* a, long a_row, long a_step, const float* b, long count, float* c, long c_row,
                 long columns, bool add) {
  Vec total[R][3] = {};
  for (long k = 0; k < count; ++k) {
    const Vec b0 = load(b, LANES), b1 = load(b + LANES, LANES), b2 = load(b + 2 * LANES, LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float s = a[r * a_row + k * a_step];
      total[r][0] += s * b0;
      total[r][1] += s * b1;
      total[r][2] += s * b2;
    }
    b += kPanel;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      const long n = columns - i * LANES < LANES ? columns - i * LANES : LANES;
      float* to = c + r * c_row + i * LANES;
      if (n == LANES) store(to, add ? load(to, LANES) + total[r][i] : total[r][i], LANES);
      else if (n > 0) store(to, add ? load(to, n) + total[r][i] : total[r][i], n);
    }
  }
}

// `rows` rows of a tile column, TILE_ROWS at a time.
static inline void tiles(long rows, const float* a, long a_row, long a_step, const float* b, long count, float* c,
                  long c_row, long columns, bool add) {
  for (; rows >= TILE_ROWS; rows -= TILE_ROWS, a += TILE_ROWS * a_row, c += TILE_ROWS * c_row)
    tile<TILE_ROWS>(a, a_row, a_step, b, count, c, c_row, columns, add);
  for (; rows >= 2; rows -= 2, a += 2 * a_row, c += 2 * c_row)
    tile<2>(a, a_row, a_step, b, count, c, c_row, columns, add);
  if (rows) tile<1>(a, a_row, a_step, b, count, c, c_row, columns, add);
}

static long panels(long columns) { return (columns + kPanel - 1) / kPanel; }

// b [count, columns], any strides -> panels [count, kPanel] first to last, columns past the end 0.
static void pack(const float* b, long b_row, long b_column, long count, long columns, long first, long last,
                 float* packed) {
  for (long p = first; p < last; ++p) {
    const long n = columns - p * kPanel < kPanel ? columns - p * kPanel : kPanel;
    const float* from = b + p * kPanel * b_column;
    float* to = packed + p * count * kPanel;
    if (b_column == 1) {
      for (long k = 0; k < count; ++k, to += kPanel) {
        __builtin_memcpy(to, from + k * b_row, n * 4);
        for (long j = n; j < kPanel; ++j) to[j] = 0;
      }
    } else {  // along the rows of the transposed matrix, which are what lies together
      for (long j = 0; j < kPanel; ++j)
        for (long k = 0; k < count; ++k) to[k * kPanel + j] = j < n ? from[j * b_column + k * b_row] : 0;
    }
  }
}

// c (+)= a b for one block of rows: a [rows, count] any strides, b packed. `scratch`: kRowBlock * kBlock floats.
static void product_block(long rows, const float* a, long a_row, long a_step, const float* packed, long count,
                          float* c, long c_row, long columns, bool add, float* scratch) {
  for (long first = 0; first < rows; first += kRowBlock) {
    const long n = rows - first < kRowBlock ? rows - first : kRowBlock;
    const float* from = a + first * a_row;
    if (a_step != 1)  // a is transposed: the rows of a tile are copied to lie together
      for (long r = 0; r < n; r += TILE_ROWS)
        for (long k = 0; k < count; ++k)
          for (long i = 0; i < TILE_ROWS; ++i)
            scratch[r * count + k * TILE_ROWS + i] = r + i < n ? from[(r + i) * a_row + k * a_step] : 0;
    for (long p = 0; p < panels(columns); ++p) {
      const float* b = packed + p * count * kPanel;
      float* to = c + first * c_row + p * kPanel;
      const long width = columns - p * kPanel;
      if (a_step == 1) {
        tiles(n, from, a_row, 1, b, count, to, c_row, width, add);
      } else {
        for (long r = 0; r < n; r += TILE_ROWS)
          tiles(n - r < TILE_ROWS ? n - r : TILE_ROWS, scratch + r * count, 1, TILE_ROWS, b, count, to + r * c_row,
                c_row, width, add);
      }
    }
  }
}

// c [rows, columns] = a b: a [rows, count] row after row; b packed, kBlock of its rows after another.
static void multiply(long rows, long count, long columns, const float* a, const float* packed, float* c) {
  for (long first = 0; first < rows; first += kRowBlock) {
    const long n = rows - first < kRowBlock ? rows - first : kRowBlock;
    for (long k = 0; k < count; k += kBlock)
      product_block(n, a + first * count + k, count, 1, packed + k * panels(columns) * kPanel,
                    count - k < kBlock ? count - k : kBlock, c + first * columns, columns, columns, k > 0, nullptr);
  }
}

// The same in panels `first` to `last` of the columns, for few rows. c has rows of `c_row` numbers.
static void multiply_panels(long rows, long count, long columns, const float* a, const float* packed, long first,
                            long last, float* c, long c_row) {
  for (long p = first; p < last; ++p)
    for (long k = 0; k < count; k += kBlock) {
      const long n = count - k < kBlock ? count - k : kBlock;
      tiles(rows, a + k, count, 1, packed + (k * panels(columns) + p * n) * kPanel, n, c + p * kPanel, c_row,
            columns - p * kPanel, k > 0);
    }
}
