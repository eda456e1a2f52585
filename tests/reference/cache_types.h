// Naive double-precision twins of three cache types, written from their definitions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace kvfold::reference {

// IEEE half: 1 sign, 5 exponent (bias 15), 10 mantissa bits.
inline double f16_value(uint16_t bits) {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = bits >> 10 & 31;
    const int mantissa = bits & 1023;
    if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
    if (exponent == 0) return sign * std::ldexp(mantissa, -24);
    return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

// The upper half of a float.
inline double bf16_value(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value = 0;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
}

// x rounded to `digits` binary digits, ties to even, no smaller step than `smallest`.
inline double round_to_digits(double x, int digits, double smallest) {
    if (x == 0) return 0;
    const double step = std::max(std::ldexp(1.0, std::ilogb(x) - digits + 1), smallest);
    return std::nearbyint(x / step) * step;
}
inline double round_f16(double x) { return round_to_digits(x, 11, std::ldexp(1.0, -24)); }
inline double round_bf16(double x) { return round_to_digits(x, 8, 0); }

// q8_0: blocks of 32 elements, an f16 scale and 32 signed bytes.
constexpr size_t kQ8Block = 32;
constexpr size_t kQ8Bytes = 34;

inline std::vector<double> q8_0_values(const std::vector<uint8_t>& bytes) {
    std::vector<double> values;
    for (size_t block = 0; block < bytes.size() / kQ8Bytes; ++block) {
        const uint8_t* at = bytes.data() + block * kQ8Bytes;
        const double scale = f16_value(static_cast<uint16_t>(at[0] | at[1] << 8));
        for (size_t i = 0; i < kQ8Block; ++i)
            values.push_back(scale * static_cast<int8_t>(at[2 + i]));
    }
    return values;
}

} // namespace kvfold::reference
