// Custom calls: matrix products. Arrays are float32, row after row.
#pragma once
#include <cstring>

#include "custom_call.h"
#include "instruction_sets.h"
#include "scratch.h"
#include "thread_pool.h"

namespace {

constexpr long kTasks = 4;  // of a product of few rows, for each thread

template <const Kernels& K>
long panels(long columns) { return (columns + K.panel - 1) / K.panel; }

template <const Kernels& K>
long padded(long columns) { return panels<K>(columns) * K.panel; }

// b [count, columns], any strides, in blocks of `block` rows.
template <const Kernels& K>
void pack(const float* b, long b_row, long b_column, long count, long columns, long block, long threads, float* to) {
  parallel(panels<K>(columns), 1, threads, [&](long first, long last, long) {
    for (long k = 0; k < count; k += block)
      K.pack(b + k * b_row, b_row, b_column, count - k < block ? count - k : block, columns, first, last,
             to + k * padded<K>(columns));
  });
}

// Sums what each thread has of an array: parts [threads, count] -> out [count].
void sum_parts(const float* parts, long threads, long count, float* out) {
  std::memcpy(out, parts, count * 4);
  for (long i = 1; i < threads; ++i)
    for (long j = 0; j < count; ++j) out[j] += parts[i * count + j];
}

struct ProductSizes {  // of [rows, count] times [count, columns]
  long threads, rows, count, columns;
};

template <const Kernels& K>
ProductSizes product_sizes(Arguments& arguments) {
  ProductSizes s;
  s.threads = arguments.threads(), s.rows = arguments.size("rows"), s.count = arguments.size("count");
  s.columns = arguments.size("columns");
  elements({s.rows, s.count}), elements({s.count, padded<K>(s.columns)}), elements({s.rows, s.columns});
  return s;
}

// a [rows, count], b [count, columns] (or [columns, count]) -> a b [rows, columns].
template <const Kernels& K>
void product(Call& call) {
  const ProductSizes s = product_sizes<K>(call.arguments);
  const bool transposed = call.arguments.flag("transposed");
  call.arguments.end();
  Scratch packed{s.count, padded<K>(s.columns)};
  pack<K>(call.operand(1), transposed ? 1 : s.columns, transposed ? s.count : 1, s.count, s.columns, K.block,
          s.threads, packed.data);
  parallel(s.rows, K.tile_rows, s.threads, [&](long first, long last, long) {
    K.multiply(last - first, s.count, s.columns, call.operand(0) + first * s.count, packed.data,
               call.only_result() + first * s.columns);
  });
}

// b [count, columns] -> its panels, for the products of many calls.
template <const Kernels& K>
void pack_once(Call& call) {
  const long threads = call.arguments.threads(), count = call.arguments.size("count");
  const long columns = call.arguments.size("columns");
  call.arguments.end();
  elements({count, padded<K>(columns)});
  pack<K>(call.operand(0), columns, 1, count, columns, K.block, threads, call.only_result());
}

// a [rows, count], panels of b [count, columns] -> a b [rows, columns]. For few rows: threads share the columns.
template <const Kernels& K>
void packed_product(Call& call) {
  const ProductSizes s = product_sizes<K>(call.arguments);
  call.arguments.end();
  parallel(panels<K>(s.columns), 1, s.threads, [&](long first, long last, long) {
    K.multiply_panels(s.rows, s.count, s.columns, call.operand(0), call.operand(1), first, last, call.only_result(),
                      s.columns);
  }, kTasks);
}

// c [rows, columns] += a^T b: a [count, rows], b [count, columns]. Threads share the rows of c, for which no number
// depends on how many threads there are. packed: room for a block of b; scratch: for each thread.
template <const Kernels& K>
void add_transposed(long count, long rows, long columns, const float* a, const float* b, long threads, float* c,
                    float* packed, float* scratch) {
  for (long k = 0; k < count; k += K.block) {
    const long n = std::min(K.block, count - k);
    pack<K>(b + k * columns, columns, 1, n, columns, K.block, threads, packed);
    parallel(rows, K.tile_rows, threads, [&](long first, long last, long i) {
      K.product_block(last - first, a + k * rows + first, 1, rows, packed, n, c + first * columns, columns, columns,
                      true, scratch + i * K.transposed_scratch);
    });
  }
}

// a [count, rows], b [count, columns] -> a^T b [rows, columns].
template <const Kernels& K>
void transposed_product(Call& call) {
  const ProductSizes s = product_sizes<K>(call.arguments);
  call.arguments.end();
  Scratch packed{K.block, padded<K>(s.columns)}, scratch{s.threads, K.transposed_scratch};
  std::memset(call.only_result(), 0, s.rows * s.columns * 4);
  add_transposed<K>(s.count, s.rows, s.columns, call.operand(0), call.operand(1), s.threads, call.only_result(),
                    packed.data, scratch.data);
}

}  // namespace
