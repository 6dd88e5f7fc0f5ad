// What else lies between the matrix products of a layer: norms, gates, and states in two bytes.

#include "lanes.h"

namespace {

// Root mean square normalisation (Zhang and Sennrich 2019).
template <typename T>
void normalise(const T *x, const T *weight, int rows, int size, float epsilon, T *out) {
#pragma omp parallel for
    for (int row = 0; row < rows; ++row) {
        const T *from = x + static_cast<int64_t>(row) * size;
        T *to = out + static_cast<int64_t>(row) * size;
        float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
        for (int d = 0; d < size; ++d) squares += to_float(from[d]) * to_float(from[d]);
        const float factor = 1.0f / std::sqrt(squares / size + epsilon);
        for (int d = 0; d < size; ++d) put(to + d, to_float(weight[d]) * (to_float(from[d]) * factor));
    }
}

// gate <- silu(gate) * up (Shazeer 2020); rows of a multiple of sixteen.
template <typename T>
void gate(T *gates, const T *ups, int64_t number) {
#pragma omp parallel for
    for (int64_t i = 0; i < number; i += kLanes) {
        const Lanes x = load(gates + i);
        const Lanes most = Lanes{} + 80.0f;  // beyond, e^-x would overflow
        const Lanes out = x / (1.0f + exp_of(-x < most ? -x : most)) * load(ups + i);
        for (int lane = 0; lane < kLanes; ++lane) put(gates + i + lane, out[lane]);
    }
}

// Each row in two bytes: x ~ (first + second / 254) * scale, the largest magnitude at 127. out [2 * rows, size] holds
// the first bytes of all rows, then the second ones. Rows of a multiple of sixteen.
template <typename T>
void quantise(const T *x, int rows, int size, int8_t *out, float *scales) {
#pragma omp parallel for
    for (int row = 0; row < rows; ++row) {
        const T *from = x + static_cast<int64_t>(row) * size;
        int8_t *first = out + static_cast<int64_t>(row) * size, *second = first + static_cast<int64_t>(rows) * size;
        Lanes most = {}, nothing = {};
        for (int d = 0; d < size; d += kLanes) {
            const Lanes part = load(from + d), magnitude = part < 0.0f ? -part : part;
            most = magnitude > most ? magnitude : most;
            nothing += part * 0.0f;  // but not where a state is no number: bytes cannot say so, the scale can
        }
        float largest = 0.0f;
        for (int lane = 0; lane < kLanes; ++lane) largest = std::max(largest, most[lane]);
        scales[row] = largest / 127.0f + sum_of(nothing);
        const float factor = largest > 0.0f ? 127.0f / largest : 0.0f;
        for (int d = 0; d < size; d += kLanes) {
            const Lanes exact = load(from + d) * factor;
            const Lanes whole = exact + 12582912.0f - 12582912.0f;  // rounded, see exp_of
            const Lanes rest = (exact - whole) * 254.0f + 12582912.0f - 12582912.0f;
            const Bytes whole_bytes = __builtin_convertvector(__builtin_convertvector(whole, Integers), Bytes);
            const Bytes rest_bytes = __builtin_convertvector(__builtin_convertvector(rest, Integers), Bytes);
            std::memcpy(first + d, &whole_bytes, sizeof whole_bytes);
            std::memcpy(second + d, &rest_bytes, sizeof rest_bytes);
        }
    }
}

// What integer products [2 * rows, size] of such rows stand for, times the scale of their column, plus a bias if any.
template <typename T>
void dequantise(const int32_t *x, const float *row_scales, const float *column_scales, const float *bias, int rows,
                int size, T *out) {
#pragma omp parallel for
    for (int row = 0; row < rows; ++row) {
        const int64_t start = static_cast<int64_t>(row) * size;
        const int32_t *first = x + start, *second = first + static_cast<int64_t>(rows) * size;
        const float scale = row_scales[row], small = scale / 254.0f;
        for (int d = 0; d < size; ++d) {
            const float value = (first[d] * scale + second[d] * small) * column_scales[d];
            put(out + start + d, bias ? value + bias[d] : value);
        }
    }
}

}  // namespace

#define FOR_EACH_TYPE(T, NAME)                                                                                         \
    void normalise_##NAME(const T *x, const T *weight, int rows, int size, float epsilon, T *out) {                    \
        normalise(x, weight, rows, size, epsilon, out);                                                                \
    }                                                                                                                  \
    void gate_##NAME(T *gates, const T *ups, int64_t number) { gate(gates, ups, number); }                             \
    void quantise_##NAME(const T *x, int rows, int size, int8_t *out, float *scales) {                                 \
        quantise(x, rows, size, out, scales);                                                                          \
    }                                                                                                                  \
    void dequantise_##NAME(const int32_t *x, const float *row_scales, const float *column_scales, const float *bias,   \
                           int rows, int size, T *out) {                                                               \
        dequantise(x, row_scales, column_scales, bias, rows, size, out);                                               \
    }

extern "C" {

FOR_EACH_TYPE(float, float32)
FOR_EACH_TYPE(bf16, bfloat16)
}
