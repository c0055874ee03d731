// What XLA hands to a custom call and expects from it: version 3 of the interface, API_VERSION_STATUS_RETURNING_UNIFIED
// (xla/service/custom_call_status.h), the one that TensorFlow's XlaCustomCallV2 uses. Typed calls (xla/ffi/api) are not
// to be had: that operation makes none, and TensorFlow does not export where they are registered.
#pragma once
#include <cstddef>
#include <optional>
#include <string>

#include "arguments.h"

namespace {

// XlaCustomCallStatus of xla/service/custom_call_status_internal.h, mirrored, since TensorFlow exports no function that
// sets it. charlm/network/backend/self_check.py tries it before the kernels are used.
struct Status {
  std::optional<std::string> message;  // there is one where the call failed
};

struct Call {
  const void** operands;
  void* results;
  Arguments arguments;

  const float* operand(int i) const { return static_cast<const float*>(operands[i]); }
  // XLA hands over the array itself where there is one result, an array of arrays where there are several.
  float* only_result() const { return static_cast<float*>(results); }
  float* result(int i) const { return static_cast<float*>(static_cast<void**>(results)[i]); }
};

struct NamedCall {
  const char* name;
  void (*compute)(Call&);
};

}  // namespace
