// The numbers of a custom call and the sizes of its arrays, checked before anything is computed.
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <system_error>

namespace {

// Why a kernel cannot compute, in one line.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr long kMostThreads = 4096;
constexpr long kMostElements = 1L << 40;

// How many numbers an array of these sizes has.
long elements(std::initializer_list<long> sizes) {
  long product = 1;
  for (const long size : sizes)
    if (__builtin_mul_overflow(product, size, &product) || product > kMostElements)
      throw Failure("expected arrays of at most " + std::to_string(kMostElements) + " numbers");
  return product;
}

// Numbers written as decimal integers with one space between, read one by one. A float is written as the integer that
// has its 32 bits: how its digits are read would depend on the locale.
class Arguments {
 public:
  Arguments(const char* text, size_t length) : at_(text), end_(text + length) {}

  long integer(const char* name, long least, long most) {
    long number = 0;
    const auto [rest, error] = std::from_chars(at_, end_, number);
    if (error != std::errc() || number < least || number > most)
      throw Failure(std::string(name) + ": expected " + std::to_string(least) + " to " + std::to_string(most) +
                    ", got " + (at_ == end_ ? "nothing" : std::string(at_, std::find(at_, end_, ' '))));
    at_ = rest + (rest != end_ && *rest == ' ');
    return number;
  }

  long size(const char* name) { return integer(name, 1, INT32_MAX); }
  long threads() { return integer("threads", 1, kMostThreads); }
  bool flag(const char* name) { return integer(name, 0, 1); }

  float real(const char* name) {
    const uint32_t bits = integer(name, 0, UINT32_MAX);
    float number;
    std::memcpy(&number, &bits, 4);
    if (!std::isfinite(number)) throw Failure(std::string(name) + ": expected a finite number");
    return number;
  }

  void end() const {
    if (at_ != end_) throw Failure("expected no more numbers, got '" + std::string(at_, end_) + "'");
  }

 private:
  const char *at_, *end_;
};

}  // namespace
