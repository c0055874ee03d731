// Native CPU kernels, called by XLA programs as custom calls: matrix products and the layer-norm GRU.
//
// They need nothing but a C++ compiler: `charlm_register_3` is handed the registry of XLA by the TensorFlow that is
// loaded. What the machine has of the instruction sets is found when the library is loaded.
#include <cstddef>
#include <exception>
#include <string>
#include <utility>

#include "custom_call.h"
#include "gru_calls.h"
#include "instruction_sets.h"
#include "linear_calls.h"
#include "product_calls.h"

namespace {

template <const Kernels& K>
constexpr NamedCall kCalls[] = {
    {"product", product<K>},
    {"pack", pack_once<K>},
    {"packed_product", packed_product<K>},
    {"transposed_product", transposed_product<K>},
    {"linear_map", linear_map<K>},
    {"packed_linear_map", packed_linear_map<K>},
    {"linear_map_gradient", linear_map_gradient<K>},
    {"gru_forward", gru_forward<K>},
    {"gru_step", gru_step<K>},
    {"gru_backward", gru_backward<K>},
};

// What XLA calls. A failure becomes the call's status, which TensorFlow raises as an error.
template <const Kernels& K, size_t I>
void entry(void* results, const void** operands, const char* arguments, size_t length, Status* status) {
  try {
    Call call{operands, results, Arguments(arguments, length)};
    kCalls<K>[I].compute(call);
  } catch (const std::exception& error) {
    status->message = std::string("native kernel ") + kCalls<K>[I].name + ": " + error.what();
  }
}

using Registry = void* (*)();
using Add = void (*)(void*, const std::string&, void*, const std::string&);

template <const Kernels& K, size_t... I>
void add_calls(const std::string& set, Registry registry, Add add, std::index_sequence<I...>) {
  (add(registry(), "charlm_" + set + "_" + kCalls<K>[I].name, reinterpret_cast<void*>(entry<K, I>), "Host"), ...);
}

template <const Kernels& K>
void add_calls(const std::string& set, Registry registry, Add add) {
  add_calls<K>(set, registry, add, std::make_index_sequence<std::size(kCalls<K>)>());
}

}  // namespace

// `registry` and `add` are xla::CustomCallTargetRegistry::Global and ::Register. Adds the calls of every instruction
// set that this machine has, named charlm_SET_CALL, and returns the sets, best first, with spaces between.
extern "C" __attribute__((visibility("default"))) const char* charlm_register_3(Registry registry, Add add) {
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
