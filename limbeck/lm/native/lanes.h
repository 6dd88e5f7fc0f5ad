// What the kernels share: numbers in fp32 or bf16, and sixteen of them side by side.
//
// Every row is computed on its own and in one order, so that its bits do not depend on what else is in the batch.
// T is float or bf16 (two bytes; computed in float). The sources are compiled together on first use (kernels.py);
// without a compiler torch's own operators do the same. Called through ctypes: pointers and sizes, which the caller has
// checked.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) {
    const uint32_t wide = static_cast<uint32_t>(x.bits) << 16;
    float out;
    std::memcpy(&out, &wide, 4);
    return out;
}

inline void put(float *target, float x) { *target = x; }

inline void put(bf16 *target, float x) {  // to the nearest, ties to even
    uint32_t wide;
    std::memcpy(&wide, &x, 4);
    target->bits = static_cast<uint16_t>((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
}

// Sixteen numbers side by side: one register of the widest processors, several of others.
typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t Integers __attribute__((vector_size(64)));
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef uint32_t WideBits __attribute__((vector_size(64)));
typedef uint16_t NarrowBits __attribute__((vector_size(32)));
constexpr int kLanes = 16;

inline Lanes load(const float *x) {
    Lanes out;
    std::memcpy(&out, x, sizeof out);
    return out;
}

inline Lanes load(const bf16 *x) {
    NarrowBits bits;
    std::memcpy(&bits, x, sizeof bits);
    const WideBits wide = __builtin_convertvector(bits, WideBits) << 16;
    Lanes out;
    std::memcpy(&out, &wide, sizeof out);
    return out;
}

inline void store(float *target, Lanes x) { std::memcpy(target, &x, sizeof x); }

inline float sum_of(Lanes x) {
    float sum = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) sum += x[lane];
    return sum;
}

// e^x for x <= 88, to about 2 ulp; below -87 what e^-87 is. Range reduction and polynomial of Cephes' expf.
inline Lanes exp_of(Lanes x) {
    const Lanes least = Lanes{} - 87.0f;
    x = x < least ? least : x;
    const Lanes rounded = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: the sum has no place for a fraction
    const Lanes n = rounded - 12582912.0f;
    const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Integers exponent = (__builtin_convertvector(n, Integers) + 127) << 23;
    Lanes power;
    std::memcpy(&power, &exponent, sizeof power);
    return p * power;
}

}  // namespace
