// Custom calls: linear maps with layer norm.
#pragma once
#include <cstring>

#include "product_calls.h"

namespace {

NormGroups norm_groups(Arguments& arguments, long columns) {
  NormGroups groups = {};
  groups.count = arguments.integer("groups", 1, kMostGroups);
  for (long i = 0; i < groups.count; ++i) groups.columns += groups.sizes[i] = arguments.size("columns of a group");
  arguments.end();
  if (groups.columns != columns)
    throw Failure("groups: expected " + std::to_string(columns) + " columns in all, got " +
                  std::to_string(groups.columns));
  return groups;
}

// a [rows, count], b [count, columns], gain, bias [columns] -> y [rows, columns], and what its gradient needs where
// that will be taken: normal [rows, columns], inverses [rows, groups].
template <const Kernels& K>
void linear_map(Call& call) {
  const ProductSizes s = product_sizes<K>(call.arguments);
  const bool keep = call.arguments.flag("keep");
  const NormGroups groups = norm_groups(call.arguments, s.columns);
  Scratch packed{s.count, padded<K>(s.columns)};
  pack<K>(call.operand(1), s.columns, 1, s.count, s.columns, K.block, s.threads, packed.data);
  float* y = keep ? call.result(0) : call.only_result();
  parallel(s.rows, K.tile_rows, s.threads, [&](long first, long last, long) {
    for (long n; first < last; first += n) {  // rows that are still in the cache when they are normalised
      n = last - first < 64 ? last - first : 64;
      K.multiply(n, s.count, s.columns, call.operand(0) + first * s.count, packed.data, y + first * s.columns);
      K.normalise(groups, n, call.operand(2), call.operand(3), y + first * s.columns,
                  keep ? call.result(1) + first * s.columns : nullptr,
                  keep ? call.result(2) + first * groups.count : nullptr);
    }
  });
}

// a, panels of b, gain, bias -> y [rows, columns]: the map of few rows.
template <const Kernels& K>
void packed_linear_map(Call& call) {
  const ProductSizes s = product_sizes<K>(call.arguments);
  const NormGroups groups = norm_groups(call.arguments, s.columns);
  float* y = call.only_result();
  parallel(panels<K>(s.columns), 1, s.threads, [&](long first, long last, long) {
    K.multiply_panels(s.rows, s.count, s.columns, call.operand(0), call.operand(1), first, last, y, s.columns);
  }, kTasks);
  parallel(s.rows, 1, s.threads, [&](long first, long last, long) {
    K.normalise(groups, last - first, call.operand(2), call.operand(3), y + first * s.columns, nullptr, nullptr);
  });
}

// dy, normal, inverses, gain -> gradients of a b [rows, columns], gain and bias.
template <const Kernels& K>
void linear_map_gradient(Call& call) {
  const long most = call.arguments.threads(), rows = call.arguments.size("rows");
  const long columns = call.arguments.size("columns"), threads = useful_threads(most, rows, 1);
  const NormGroups groups = norm_groups(call.arguments, columns);
  elements({rows, columns});
  Scratch parts{2, threads, columns};
  float *dgain = parts.data, *dbias = dgain + threads * columns;
  std::memset(parts.data, 0, 2 * threads * columns * 4);
  parallel(rows, 1, threads, [&](long first, long last, long i) {
    const long at = first * columns;
    K.normalise_gradient(groups, last - first, call.operand(0) + at, call.operand(1) + at,
                         call.operand(2) + first * groups.count, call.operand(3), call.result(0) + at,
                         dgain + i * columns, dbias + i * columns);
  });
  sum_parts(dgain, threads, columns, call.result(1));
  sum_parts(dbias, threads, columns, call.result(2));
}

}  // namespace
