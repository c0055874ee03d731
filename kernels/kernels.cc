// Native CPU kernels, called by XLA programs as custom calls: matrix products and the layer-norm GRU.
//
// Compiled for every instruction set below, so that one binary runs well on any machine: what the machine has is
// found when the library is loaded. It needs nothing but a C++ compiler: `charlm_register_2` is handed the registry of
// XLA by the TensorFlow that is loaded. Arrays are float32, row after row; masks are bytes of 0 and 1.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define INLINE static inline __attribute__((always_inline))
// A body of for_vectors. Left to itself the compiler calls some, with a count that is then no constant: its loads and
// stores were calls too, and a tenth of a training step at H 192.
#define EACH [&](long j, long n) __attribute__((always_inline))

namespace {

struct Gru {
  long steps, batch, units;
  const float *x, *start, *gain, *bias;               // [T, B, 3H] or [V, 3H], [B, H], [3H], [H]
  const int* tokens;                                  // [T, B] which rows of x, or null
  const unsigned char *update_mask, *candidate_mask;  // [T, B, H], or null for all ones
  float update_scale, candidate_scale;
  float *states, *saved, *inverses;                   // [T, B, H], [T, B, 6H] or null, [T, B, 2]
  const float* dstates;                               // [T, B, H]
  float* dstart;                                      // [B, H]
};

struct Groups {  // of columns that layer norm takes together
  long count, columns;
  long sizes[8];
};

// What products.h, map.h and gru.h define, for one instruction set.
struct Kernels {
  long tile_rows, panel, block;
  void (*pack)(const float*, long, long, long, long, long, long, float*);
  void (*multiply)(long, long, long, const float*, const float*, float*);
  void (*multiply_panels)(long, long, long, const float*, const float*, long, long, float*, long);
  void (*add_transposed)(long, long, long, const float*, const float*, float*, float*);
  long (*room_of_product)(long);
  void (*gru_gates)(const Gru&, long, long, long, const float*, long);
  void (*gru_forward)(const Gru&, const float*, long, long, float*);
  long (*room_of_forward)(long, long);
  void (*gru_backward)(const Gru&, const float*, long, long, float*, float*, float*, float*, float*);
  long (*room_of_backward)(long, long);
  void (*normalise)(const Groups&, long, const float*, const float*, float*, float*, float*);
  void (*normalise_gradient)(const Groups&, long, const float*, const float*, const float*, const float*, float*, float*,
                             float*);
};

#define KERNELS \
  Kernels{TILE_ROWS,      kPanel,          kBlock,      pack,            multiply,     multiply_panels, \
          add_transposed, room_of_product, gru_gates,   gru_forward,     room_of_forward, gru_backward, \
          room_of_backward, normalise,     normalise_gradient}

namespace base {
#define LANES 4
#define TILE_ROWS 4
#include "products.h"
#include "map.h"
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
#include "map.h"
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
#include "map.h"
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

// Numbers that nothing has written yet; 64 bytes aligned, as vectors like it.
struct Room {
  explicit Room(long count) : numbers(static_cast<float*>(std::aligned_alloc(64, (count * 4 + 127) / 64 * 64))) {
    if (numbers) return;
    std::fprintf(stderr, "charlm: no memory for %ld more numbers\n", count);
    std::abort();
  }
  ~Room() { std::free(numbers); }
  Room(const Room&) = delete;
  float* numbers;
};

// Threads that take pieces of work: awake for a while, since calls follow each other and waking up takes longer than the
// shortest of them, then asleep. The caller takes pieces too, so that it never waits for a thread that has not begun.
// Never destroyed: a thread may still wait when the process ends.
class Pool {
 public:
  static Pool& global() {
    static Pool* pool = new Pool;
    return *pool;
  }

  // Calls job(i) for i < pieces, in `threads` threads with this one, and waits; all in this one where the others are at
  // work for another caller.
  void run(unsigned long pieces, long threads, const std::function<void(long)>& job) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn || threads <= 1) {
      for (unsigned long i = 0; i < pieces; ++i) job(i);
      return;
    }
    for (; size_ < threads; ++size_) std::thread(&Pool::serve, this).detach();
    job_ = &job, undone_ = pieces;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      untaken_ = pieces;
    }
    wake_.notify_all();
    work();
    for (long spins = 0; undone_; ++spins) pause(spins);
  }

 private:
  static void pause(long spins) {
#if defined(__x86_64__)
    if (spins < 5000) return __builtin_ia32_pause();
#endif
    std::this_thread::yield();
  }

  void work() {
    for (unsigned long n = untaken_; n; n = untaken_)
      if (untaken_.compare_exchange_weak(n, n - 1)) (*job_)(n - 1), --undone_;  // the job of the piece just taken
  }

  void serve() {
    for (;;) {
      for (long spins = 0; !untaken_ && spins < 5000; ++spins) pause(spins);
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return untaken_ > 0; });
      }
      work();
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned long> untaken_{0}, undone_{0};  // pieces of the job
  const std::function<void(long)>* job_ = nullptr;
  long size_ = 1;  // threads, with the caller
};

// How many of `threads` there is work for, a `unit` at least for each.
long useful(long threads, long count, long unit) { return std::min(threads, (count + unit - 1) / unit); }

// Calls work(first, last, index) with a share of `count` for each thread, of whole `unit`s, or with `pieces` shares for
// each, so that none waits long for another; waits for all.
template <class Work>
void parallel(long count, long unit, long threads, const Work& work, long pieces = 1) {
  const long units = (count + unit - 1) / unit, shares = useful(pieces * threads, count, unit);
  const auto edge = [&](long i) { return i == shares ? count : units * i / shares * unit; };
  Pool::global().run(shares, std::min(threads, shares), [&](long i) { work(edge(i), edge(i + 1), i); });
}

template <const Kernels& K>
long panels(long columns) { return (columns + K.panel - 1) / K.panel; }

// b [count, columns], any strides, in blocks of `block` rows.
template <const Kernels& K>
void pack(const float* b, long b_row, long b_column, long count, long columns, long block, long threads, float* to) {
  parallel(panels<K>(columns), 1, threads, [&](long first, long last, long) {
    for (long k = 0; k < count; k += block)
      K.pack(b + k * b_row, b_row, b_column, count - k < block ? count - k : block, columns, first, last,
             to + k * panels<K>(columns) * K.panel);
  });
}

// Sums what each thread has of an array: parts [threads, count] -> out [count].
void sum_parts(const float* parts, long threads, long count, float* out) {
  std::memcpy(out, parts, count * 4);
  for (long i = 1; i < threads; ++i)
    for (long j = 0; j < count; ++j) out[j] += parts[i * count + j];
}

struct Numbers {  // of a call's `opaque`, with spaces between
  const char* at;
  long integer() { char* end; const long n = std::strtol(at, &end, 10); at = end; return n; }
  float real() { char* end; const float n = std::strtof(at, &end); at = end; return n; }
};

using In = const void**;
using Out = void*;

// XLA hands over the array itself where there is one result, an array of arrays where there are several.
float* only_output(Out out) { return static_cast<float*>(out); }
float* output(Out out, int i) { return static_cast<float*>(static_cast<void**>(out)[i]); }
const float* input(In in, int i) { return static_cast<const float*>(in[i]); }

// a [rows, count], b [count, columns] (or [columns, count]) -> a b [rows, columns].
template <const Kernels& K>
void product(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer(), rows = numbers.integer(), count = numbers.integer();
  const long columns = numbers.integer(), transposed = numbers.integer();
  Room packed(count * panels<K>(columns) * K.panel);
  pack<K>(input(in, 1), transposed ? 1 : columns, transposed ? count : 1, count, columns, K.block, threads,
       packed.numbers);
  parallel(rows, K.tile_rows, threads, [&](long first, long last, long) {
    K.multiply(last - first, count, columns, input(in, 0) + first * count, packed.numbers,
               only_output(out) + first * columns);
  });
}

constexpr long kPieces = 4;  // of a product of few rows, for each thread

// b [count, columns] -> its panels, for the products of many calls.
template <const Kernels& K>
void pack_once(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer(), count = numbers.integer(), columns = numbers.integer();
  pack<K>(input(in, 0), columns, 1, count, columns, K.block, threads, only_output(out));
}

// a [rows, count], panels of b [count, columns] -> a b [rows, columns]. For few rows: threads share the columns.
template <const Kernels& K>
void packed_product(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer(), rows = numbers.integer(), count = numbers.integer();
  const long columns = numbers.integer();
  parallel(panels<K>(columns), 1, threads, [&](long first, long last, long) {
    K.multiply_panels(rows, count, columns, input(in, 0), input(in, 1), first, last, only_output(out), columns);
  }, kPieces);
}

// a [count, rows], b [count, columns] -> a^T b [rows, columns].
template <const Kernels& K>
void transposed_product(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long most = numbers.integer(), rows = numbers.integer(), count = numbers.integer();
  const long columns = numbers.integer(), size = rows * columns, threads = useful(most, count, K.block);
  Room parts(threads * size), room(threads * K.room_of_product(columns));
  std::memset(parts.numbers, 0, threads * size * 4);
  parallel(count, K.block, threads, [&](long first, long last, long i) {
    K.add_transposed(last - first, rows, columns, input(in, 0) + first * rows, input(in, 1) + first * columns,
                     parts.numbers + i * size, room.numbers + i * K.room_of_product(columns));
  });
  sum_parts(parts.numbers, threads, size, only_output(out));
}

Groups groups(Numbers& numbers) {
  Groups groups = {};
  groups.count = numbers.integer();
  for (long i = 0; i < groups.count; ++i) groups.columns += groups.sizes[i] = numbers.integer();
  return groups;
}

// a [rows, count], b [count, columns], gain, bias [columns] -> y [rows, columns], and what its gradient needs where that
// will be taken: normal [rows, columns], inverses [rows, groups].
template <const Kernels& K>
void map(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer(), keep = numbers.integer(), rows = numbers.integer(), count = numbers.integer();
  const Groups g = groups(numbers);
  Room packed(count * panels<K>(g.columns) * K.panel);
  pack<K>(input(in, 1), g.columns, 1, count, g.columns, K.block, threads, packed.numbers);
  float* y = keep ? output(out, 0) : only_output(out);
  parallel(rows, K.tile_rows, threads, [&](long first, long last, long) {
    for (long n; first < last; first += n) {  // rows that are still in the cache when they are normalised
      n = last - first < 64 ? last - first : 64;
      K.multiply(n, count, g.columns, input(in, 0) + first * count, packed.numbers, y + first * g.columns);
      K.normalise(g, n, input(in, 2), input(in, 3), y + first * g.columns,
                  keep ? output(out, 1) + first * g.columns : nullptr,
                  keep ? output(out, 2) + first * g.count : nullptr);
    }
  });
}

// a, panels of b, gain, bias -> y [rows, columns]: the map of few rows.
template <const Kernels& K>
void packed_map(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer(), rows = numbers.integer(), count = numbers.integer();
  const Groups g = groups(numbers);
  float* y = only_output(out);
  parallel(panels<K>(g.columns), 1, threads, [&](long first, long last, long) {
    K.multiply_panels(rows, count, g.columns, input(in, 0), input(in, 1), first, last, y, g.columns);
  }, kPieces);
  parallel(rows, 1, threads, [&](long first, long last, long) {
    K.normalise(g, last - first, input(in, 2), input(in, 3), y + first * g.columns, nullptr, nullptr);
  });
}

// dy, normal, inverses, gain -> gradients of a b [rows, columns], gain and bias.
template <const Kernels& K>
void map_gradient(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long most = numbers.integer(), rows = numbers.integer(), threads = useful(most, rows, 1);
  const Groups g = groups(numbers);
  Room parts(2 * threads * g.columns);
  float *dgain = parts.numbers, *dbias = dgain + threads * g.columns;
  std::memset(parts.numbers, 0, 2 * threads * g.columns * 4);
  parallel(rows, 1, threads, [&](long first, long last, long i) {
    const long at = first * g.columns;
    K.normalise_gradient(g, last - first, input(in, 0) + at, input(in, 1) + at, input(in, 2) + first * g.count,
                         input(in, 3), output(out, 0) + at, dgain + i * g.columns, dbias + i * g.columns);
  });
  sum_parts(dgain, threads, g.columns, output(out, 1));
  sum_parts(dbias, threads, g.columns, output(out, 2));
}

// `more`: the operands that may be there, tokens and masks.
Gru gru(Numbers& numbers, In more) {
  Gru g = {};
  g.steps = numbers.integer(), g.batch = numbers.integer(), g.units = numbers.integer();
  if (numbers.integer()) g.tokens = static_cast<const int*>(*more++);
  g.update_scale = numbers.real(), g.candidate_scale = numbers.real();
  if (numbers.integer()) g.update_mask = static_cast<const unsigned char*>(*more++);
  if (numbers.integer()) g.candidate_mask = static_cast<const unsigned char*>(*more++);
  return g;
}

// x, start, U [H, 3H], gain, bias, tokens, masks -> states, and saved, inverses where the gradient will be taken.
template <const Kernels& K>
void gru_forward(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer(), keep = numbers.integer();
  Gru g = gru(numbers, in + 5);
  g.x = input(in, 0), g.start = input(in, 1), g.gain = input(in, 3), g.bias = input(in, 4);
  g.states = keep ? output(out, 0) : only_output(out);
  if (keep) g.saved = output(out, 1), g.inverses = output(out, 2);
  Room packed(g.units * panels<K>(3 * g.units) * K.panel);
  pack<K>(input(in, 2), 3 * g.units, 1, g.units, 3 * g.units, K.block, threads, packed.numbers);
  parallel(g.batch, 1, threads, [&](long first, long last, long) {
    Room room(K.room_of_forward(last - first, g.units));
    K.gru_forward(g, packed.numbers, first, last, room.numbers);
  });
}

// One token of few rows: x, start, panels of U, gain, bias, tokens -> states. Threads share the columns of the product.
template <const Kernels& K>
void gru_step(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long threads = numbers.integer();
  Gru g = gru(numbers, in + 5);
  g.x = input(in, 0), g.start = input(in, 1), g.gain = input(in, 3), g.bias = input(in, 4);
  g.states = only_output(out);
  const long stride = panels<K>(3 * g.units) * K.panel;
  Room a(g.batch * stride);
  parallel(panels<K>(3 * g.units), 1, threads, [&](long first, long last, long) {
    K.multiply_panels(g.batch, g.units, stride, g.start, input(in, 2), first, last, a.numbers, stride);
  }, kPieces);
  parallel(g.batch, 1, threads, [&](long first, long last, long) {
    K.gru_gates(g, 0, first, last, a.numbers + first * stride, stride);
  });
}

// dstates, start, states, saved, inverses, U, gain, bias, tokens, masks -> dx, dstart, dU, dgain, dbias.
template <const Kernels& K>
void gru_backward(Out out, In in, const char* opaque, size_t, void*) {
  Numbers numbers{opaque};
  const long most = numbers.integer(), table_rows = numbers.integer();  // 0 where x is no table
  Gru g = gru(numbers, in + 8);
  const long threads = useful(most, g.batch, 1);
  g.dstates = input(in, 0), g.start = input(in, 1), g.gain = input(in, 6), g.bias = input(in, 7);
  g.states = const_cast<float*>(input(in, 2)), g.saved = const_cast<float*>(input(in, 3));
  g.inverses = const_cast<float*>(input(in, 4)), g.dstart = output(out, 1);
  const long maps = 3 * g.units, weights = g.units * maps, table = table_rows * maps;
  const long size = weights + maps + g.units + table;
  Room packed(maps * panels<K>(g.units) * K.panel), parts(threads * size);
  pack<K>(input(in, 5), 1, maps, maps, g.units, maps, threads, packed.numbers);
  float *dU = parts.numbers, *dgain = dU + threads * weights, *dbias = dgain + threads * maps;
  float* dtable = dbias + threads * g.units;
  std::memset(parts.numbers, 0, threads * size * 4);
  parallel(g.batch, 1, threads, [&](long first, long last, long i) {
    Room room(K.room_of_backward(last - first, g.units));
    K.gru_backward(g, packed.numbers, first, last, dU + i * weights, dgain + i * maps, dbias + i * g.units,
                   table ? dtable + i * table : output(out, 0), room.numbers);
  });
  if (table) sum_parts(dtable, threads, table, output(out, 0));
  sum_parts(dU, threads, weights, output(out, 2));
  sum_parts(dgain, threads, maps, output(out, 3));
  sum_parts(dbias, threads, g.units, output(out, 4));
}

using Registry = void* (*)();
using Add = void (*)(void*, const std::string&, void*, const std::string&);
using Call = void (*)(Out, In, const char*, size_t, void*);

template <const Kernels& K>
void add_calls(const std::string& set, Registry registry, Add add) {
  const std::pair<const char*, Call> calls[] = {{"product", product<K>},
                                                {"pack", pack_once<K>},
                                                {"packed_product", packed_product<K>},
                                                {"transposed_product", transposed_product<K>},
                                                {"map", map<K>},
                                                {"map_gradient", map_gradient<K>},
                                                {"gru_forward", gru_forward<K>},
                                                {"packed_map", packed_map<K>},
                                                {"gru_step", gru_step<K>},
                                                {"gru_backward", gru_backward<K>}};
  for (const auto& [name, call] : calls)
    add(registry(), "charlm_" + set + "_" + name, reinterpret_cast<void*>(call), "Host");
}

}  // namespace

// `registry` and `add` are xla::CustomCallTargetRegistry::Global and ::Register. Adds the calls of every instruction set
// that this machine has, named charlm_SET_CALL, and returns the sets, best first, with spaces between.
extern "C" __attribute__((visibility("default"))) const char* charlm_register_2(Registry registry, Add add) {
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f");
  if (has_avx512) add_calls<avx512::kernels>("avx512", registry, add);
  if (has_avx2) add_calls<avx2::kernels>("avx2", registry, add);
#else
  const bool has_avx2 = false, has_avx512 = false;
#endif
  add_calls<base::kernels>("base", registry, add);
  return has_avx512 ? "avx512 avx2 base" : has_avx2 ? "avx2 base" : "base";
}
