// Custom calls: the layer-norm GRU. Masks are bytes of 0 and 1.
#pragma once
#include <algorithm>
#include <cstring>

#include "product_calls.h"

namespace {

// The sizes, masks and tokens of a layer; `more`: the operands that may be there, tokens [T, B] and masks [T, B, H].
template <const Kernels& K>
Gru gru(Arguments& arguments, const void** more) {
  Gru g = {};
  g.steps = arguments.size("steps"), g.batch = arguments.size("batch"), g.units = arguments.size("units");
  g.table_rows = arguments.integer("rows of the table", 0, INT32_MAX);
  g.update_scale = arguments.real("scale of the update mask");
  g.candidate_scale = arguments.real("scale of the candidate mask");
  if (g.table_rows) g.tokens = static_cast<const int*>(*more++);
  if (arguments.flag("update mask")) g.update_mask = static_cast<const unsigned char*>(*more++);
  if (arguments.flag("candidate mask")) g.candidate_mask = static_cast<const unsigned char*>(*more++);
  arguments.end();
  elements({g.steps, g.batch, 6 * g.units}), elements({3 * g.units, padded<K>(3 * g.units)});
  elements({g.table_rows, 3 * g.units});
  for (long i = 0; g.tokens && i < g.steps * g.batch; ++i)
    if (g.tokens[i] < 0 || g.tokens[i] >= g.table_rows)
      throw Failure("expected tokens below " + std::to_string(g.table_rows) + ", got " + std::to_string(g.tokens[i]));
  return g;
}

// Rows of the largest share of the batch.
long share_rows(const Gru& g, long shares) { return (g.batch + shares - 1) / shares; }

// x, start, U [H, 3H], gain, bias, tokens, masks -> states, and saved, inverses where the gradient will be taken.
template <const Kernels& K>
void gru_forward(Call& call) {
  const long most = call.arguments.threads();
  const bool keep = call.arguments.flag("keep");
  Gru g = gru<K>(call.arguments, call.operands + 5);
  g.x = call.operand(0), g.start = call.operand(1), g.gain = call.operand(3), g.bias = call.operand(4);
  g.states = keep ? call.result(0) : call.only_result();
  if (keep) g.saved = call.result(1), g.inverses = call.result(2);
  const long threads = useful_threads(most, g.batch, 1), size = K.forward_scratch(share_rows(g, threads), g.units);
  Scratch packed{g.units, padded<K>(3 * g.units)}, scratch{threads, size};
  pack<K>(call.operand(2), 3 * g.units, 1, g.units, 3 * g.units, K.block, most, packed.data);
  parallel(g.batch, 1, threads, [&](long first, long last, long i) {
    K.gru_forward(g, packed.data, first, last, scratch.data + i * size);
  });
}

// One token of few rows: x, start, panels of U, gain, bias, tokens -> states. Threads share the columns of the product.
template <const Kernels& K>
void gru_step(Call& call) {
  const long threads = call.arguments.threads();
  Gru g = gru<K>(call.arguments, call.operands + 5);
  if (g.steps != 1) throw Failure("steps: expected 1, got " + std::to_string(g.steps));
  g.x = call.operand(0), g.start = call.operand(1), g.gain = call.operand(3), g.bias = call.operand(4);
  g.states = call.only_result();
  const long stride = padded<K>(3 * g.units);
  Scratch a{g.batch, stride};
  parallel(panels<K>(3 * g.units), 1, threads, [&](long first, long last, long) {
    K.multiply_panels(g.batch, g.units, stride, g.start, call.operand(2), first, last, a.data, stride);
  }, kTasks);
  parallel(g.batch, 1, threads, [&](long first, long last, long) {
    K.gru_gates(g, 0, first, last, a.data + first * stride, stride);
  });
}

// Sums the gradients dx [T, B, columns] of the same token: -> table [V, columns]. Threads share the columns; each row
// gets its sum in the order in which one thread alone computes dx.
void sum_by_token(const Gru& g, const int* tokens, const float* dx, long columns, long threads, float* table) {
  parallel(columns, 16, threads, [&](long first, long last, long) {
    for (long row = 0; row < g.table_rows; ++row) std::memset(table + row * columns + first, 0, (last - first) * 4);
    for (long t = g.steps - 1; t >= 0; --t)
      for (long at = t * g.batch; at < (t + 1) * g.batch; ++at) {
        const float* from = dx + at * columns;
        float* to = table + tokens[at] * columns;
        for (long j = first; j < last; ++j) to[j] += from[j];
      }
  });
}

// The gradients of all rows of the batch: dx, dU, dgain, dbias. `dx` and those of the shares are as in GruGradients.
// Threads take so many tokens of their rows at a time that the product that is added to dU is a large one.
template <const Kernels& K>
void gru_backward_shares(const Gru& g, const float* U, long most, float* dx, const Call& call) {
  const long threads = useful_threads(most, g.batch, 1), gates = 3 * g.units, stride = padded<K>(g.units);
  const long table = g.tokens ? g.table_rows * gates : 0, sums = gates + g.units + table;
  const long tokens = std::max(1L, K.block / g.batch);  // at a time
  Scratch packed{gates, stride}, parts{threads, sums}, scratch{most, K.transposed_scratch};
  Scratch before{tokens, g.batch, g.units}, dproduct{tokens, g.batch, gates}, dh{g.batch, stride};
  Scratch packed_dproduct{K.block, padded<K>(gates)};
  float *dgain = parts.data, *dbias = dgain + threads * gates, *dtable = dbias + threads * g.units;
  pack<K>(U, 1, gates, gates, g.units, gates, most, packed.data);
  std::memset(parts.data, 0, threads * sums * 4), std::memset(dh.data, 0, g.batch * stride * 4);
  std::memset(call.result(2), 0, g.units * gates * 4);
  for (long end = g.steps; end > 0; end -= tokens) {
    const long begin = std::max(0L, end - tokens);
    parallel(g.batch, 1, threads, [&](long first, long last, long i) {
      const GruGradients gradients = {table ? dtable + i * table : dx, dgain + i * gates, dbias + i * g.units};
      K.gru_backward(g, packed.data, begin, end, first, last, gradients, {before.data, dproduct.data, dh.data});
    });
    add_transposed<K>((end - begin) * g.batch, g.units, gates, before.data, dproduct.data, most, call.result(2),
                      packed_dproduct.data, scratch.data);
  }
  if (table) sum_parts(dtable, threads, table, dx);
  sum_parts(dgain, threads, gates, call.result(3));
  sum_parts(dbias, threads, g.units, call.result(4));
}

constexpr long kFewRows = 1024;  // of tables: they take little memory, even if there are fewer tokens

// dstates, start, states, saved, inverses, U, gain, bias, tokens, masks -> dx, dstart, dU, dgain, dbias.
//
// The gradient of a table: where the vocabulary is small each thread adds to a table of its own. Where those would take
// more memory than the gradients of all tokens, these are kept, and summed by token at the end.
template <const Kernels& K>
void gru_backward(Call& call) {
  const long threads = call.arguments.threads();
  Gru g = gru<K>(call.arguments, call.operands + 8);
  g.dstates = call.operand(0), g.start = call.operand(1), g.gain = call.operand(6), g.bias = call.operand(7);
  g.states = const_cast<float*>(call.operand(2)), g.saved = const_cast<float*>(call.operand(3));
  g.inverses = const_cast<float*>(call.operand(4)), g.dstart = call.result(1);
  const long rows = useful_threads(threads, g.batch, 1) * g.table_rows;  // of all those tables
  if (rows <= std::max(g.steps * g.batch, kFewRows))
    return gru_backward_shares<K>(g, call.operand(5), threads, call.result(0), call);
  Scratch dx{g.steps, g.batch, 3 * g.units};
  const int* tokens = g.tokens;
  g.tokens = nullptr;  // dx is that of each token
  gru_backward_shares<K>(g, call.operand(5), threads, dx.data, call);
  sum_by_token(g, tokens, dx.data, 3 * g.units, threads, call.result(0));
}

}  // namespace
