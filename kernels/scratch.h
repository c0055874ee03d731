// Scratch buffers.
#pragma once
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "arguments.h"

namespace {

// An array of floats that nothing has written yet, 64 bytes aligned, as vectors like it. To be made by the thread that
// XLA calls: in another one there is nobody to catch the Failure where memory is short.
struct Scratch {
  explicit Scratch(std::initializer_list<long> sizes) {
    const long bytes = elements(sizes) * 4;
    data = static_cast<float*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
    if (!data) throw Failure("out of memory: no " + std::to_string(bytes >> 20) + " MiB more for intermediate results");
  }
  ~Scratch() { std::free(data); }
  Scratch(const Scratch&) = delete;
  float* data;
};

}  // namespace
