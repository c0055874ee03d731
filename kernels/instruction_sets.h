// The kernels compiled for every instruction set, so that one binary runs well on any machine: each is a namespace with
// a table `kernels` of its own.
#pragma once

#define INLINE static inline __attribute__((always_inline))
// A body of for_vectors. Left to itself the compiler calls some, with a count that is then no constant: its loads and
// stores were calls too, and a tenth of a training step at H 192.
#define EACH [&](long j, long n) __attribute__((always_inline))

namespace {

struct Gru {
  long steps, batch, units, table_rows;               // T, B, H, and V where x is a table, else 0
  const float *x, *start, *gain, *bias;               // [T, B, 3H] or [V, 3H], [B, H], [3H], [H]
  const int* tokens;                                  // [T, B] which rows of x, or null
  const unsigned char *update_mask, *candidate_mask;  // [T, B, H], or null for all ones
  float update_scale, candidate_scale;
  float *states, *saved, *inverses;                   // [T, B, H], [T, B, 6H] or null, [T, B, 2]
  const float* dstates;                               // [T, B, H]
  float* dstart;                                      // [B, H]
};

struct GruGradients {  // of one share of the batch
  float *dx, *dgain, *dbias;  // [T, B, 3H] or, added to, [V, 3H]; added to: [3H], [H]
};

struct GruSteps {  // of the whole batch, in the gradient of some tokens: what dU is made of, and dh between the tokens
  float *before, *dproduct;  // [tokens, B, H] states before each token, [tokens, B, 3H]; the last token first
  float* dh;                 // [B, H], rows padded to panels
};

constexpr long kMostGroups = 8;

struct NormGroups {  // of columns that layer norm takes together
  long count, columns;
  long sizes[kMostGroups];
};

// What products.h, layer_norm.h and gru.h define, for one instruction set.
struct Kernels {
  long tile_rows, panel, block, transposed_scratch;
  void (*pack)(const float*, long, long, long, long, long, long, float*);
  void (*multiply)(long, long, long, const float*, const float*, float*);
  void (*multiply_panels)(long, long, long, const float*, const float*, long, long, float*, long);
  void (*product_block)(long, const float*, long, long, const float*, long, float*, long, long, bool, float*);
  void (*gru_gates)(const Gru&, long, long, long, const float*, long);
  void (*gru_forward)(const Gru&, const float*, long, long, float*);
  long (*forward_scratch)(long, long);
  void (*gru_backward)(const Gru&, const float*, long, long, long, long, const GruGradients&, const GruSteps&);
  void (*normalise)(const NormGroups&, long, const float*, const float*, float*, float*, float*);
  void (*normalise_gradient)(const NormGroups&, long, const float*, const float*, const float*, const float*, float*,
                             float*, float*);
};

#define KERNELS \
  Kernels{TILE_ROWS,     kPanel,    kBlock,      kRowBlock * kBlock, pack,         multiply,  multiply_panels, \
          product_block, gru_gates, gru_forward, forward_scratch,    gru_backward, normalise, normalise_gradient}

namespace base {
#define LANES 4
#define TILE_ROWS 4
#include "products.h"
#include "layer_norm.h"
#include "gru.h"
constexpr Kernels kernels = KERNELS;
#undef LANES
#undef TILE_ROWS
}  // namespace base

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define LANES 8
#define TILE_ROWS 4
#include "products.h"
#include "layer_norm.h"
#include "gru.h"
constexpr Kernels kernels = KERNELS;
#undef LANES
#undef TILE_ROWS
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif
namespace avx512 {
#define LANES 16
#define TILE_ROWS 8
#include "products.h"
#include "layer_norm.h"
#include "gru.h"
constexpr Kernels kernels = KERNELS;
#undef LANES
#undef TILE_ROWS
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

}  // namespace
