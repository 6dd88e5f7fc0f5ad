// Kernels of sampling on a CPU: what lies between its matrix products, each in one pass over its data.
//
// Every row is computed on its own and in one order, so that its bits do not depend on what else is in the batch.
// T is float or bf16 (two bytes; computed in float). Compiled on first use (kernels.py); without a compiler torch's
// own operators do the same. Called through ctypes: pointers and sizes, which the caller has checked.

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

// Rotate one head by its position (Su et al. 2021): halves of the head are the two coordinates.
template <typename T>
inline void rotate(const T *x, const T *cosines, const T *sines, int size, float *out) {
    const int half = size / 2;
    for (int d = 0; d < half; ++d) {
        const float a = to_float(x[d]), b = to_float(x[half + d]);
        out[d] = a * to_float(cosines[d]) - b * to_float(sines[d]);
        out[half + d] = b * to_float(cosines[half + d]) + a * to_float(sines[half + d]);
    }
}

constexpr int kLargestHead = 256;

// Where one key/value head of one sequence lies. A page holds sixteen tokens: keys [size, 16], values [16, size].
template <typename T>
struct Cached {
    const T *keys, *values;
    const int32_t *pages;
    int64_t page_stride;
    int length;
};

// Attention of G rotated query heads, which share a key/value head. Size 0: a head size that is not known here.
template <typename T, int G, int Size>
void attend(const float *query, const Cached<T> &cached, int any_size, float *scores, T *out) {
    const int size = Size ? Size : any_size, num_pages = (cached.length + kLanes - 1) / kLanes;
    const int padded = num_pages * kLanes;
    for (int page = 0; page < num_pages; ++page) {
        const T *keys = cached.keys + cached.pages[page] * cached.page_stride;
        const int next = page + 1 < num_pages ? page + 1 : page;
        const T *soon = cached.keys + cached.pages[next] * cached.page_stride;
        Lanes even[G] = {}, odd[G] = {};
        for (int d = 0; d < size; d += 2) {
            __builtin_prefetch(soon + d * kLanes);
            __builtin_prefetch(soon + (d + 1) * kLanes);
            const Lanes first = load(keys + d * kLanes), second = load(keys + (d + 1) * kLanes);
            for (int g = 0; g < G; ++g) {
                even[g] += query[g * size + d] * first;
                odd[g] += query[g * size + d + 1] * second;
            }
        }
        for (int g = 0; g < G; ++g) {
            store(scores + g * padded + page * kLanes, even[g] + odd[g]);
        }
    }
    float share[G];
    for (int g = 0; g < G; ++g) {
        float *row = scores + g * padded;
        for (int t = cached.length; t < padded; ++t) row[t] = -INFINITY;  // unused places of the last page
        float most = -INFINITY;
#pragma omp simd reduction(max : most)
        for (int t = 0; t < cached.length; ++t) most = std::max(most, row[t]);
        Lanes total = {};
        for (int t = 0; t < padded; t += kLanes) {
            const Lanes x = exp_of(load(row + t) - most);
            total += x;
            store(row + t, x);
        }
        share[g] = 1.0f / sum_of(total);
    }
    constexpr int kParts = (Size ? Size : kLargestHead) / kLanes;
    const int parts = size / kLanes;
    Lanes sums[G][kParts] = {};
    for (int t = 0; t < cached.length; ++t) {
        const T *value = cached.values + cached.pages[t / kLanes] * cached.page_stride + t % kLanes * size;
        const int later = std::min(t + kLanes, cached.length - 1);
        const T *soon = cached.values + cached.pages[later / kLanes] * cached.page_stride + later % kLanes * size;
        for (int part = 0; part < parts; ++part) {
            __builtin_prefetch(soon + part * kLanes);
            const Lanes v = load(value + part * kLanes);
            for (int g = 0; g < G; ++g) sums[g][part] += scores[g * padded + t] * v;
        }
    }
    for (int g = 0; g < G; ++g)
        for (int d = 0; d < size; ++d) put(out + g * size + d, sums[g][d / kLanes][d % kLanes] * share[g]);
}

template <typename T, int G>
void attend_any_size(const float *query, const Cached<T> &cached, int size, float *scores, T *out) {
    if (size == 64) return attend<T, G, 64>(query, cached, size, scores, out);
    if (size == 128) return attend<T, G, 128>(query, cached, size, scores, out);
    attend<T, G, 0>(query, cached, size, scores, out);
}

// Query heads in groups whose sums fit the registers.
template <typename T>
void attend_group(const float *query, const Cached<T> &cached, int group, int size, float *scores, T *out) {
    while (group > 0) {
        const int together = std::min(group, 4);
        if (together == 4) attend_any_size<T, 4>(query, cached, size, scores, out);
        if (together == 3) attend_any_size<T, 3>(query, cached, size, scores, out);
        if (together == 2) attend_any_size<T, 2>(query, cached, size, scores, out);
        if (together == 1) attend_any_size<T, 1>(query, cached, size, scores, out);
        query += together * size, out += together * size, group -= together;
    }
}

struct Shape {
    int rows, heads, groups, size, table_width;
};

// Rotated queries [rows, heads, size] attend to the positions up to their own of the sequence that `owners` names.
template <typename T>
void attend_rows(const T *queries, const int32_t *owners, const int32_t *positions, const int32_t *tables,
                 const T *keys, const T *values, T *out, const Shape &s, float scale) {
    const int together = s.heads / s.groups;
    const int64_t head_stride = static_cast<int64_t>(kLanes) * s.size, page_stride = head_stride * s.groups;
#pragma omp parallel
    {
        std::vector<float> scores, scaled(static_cast<size_t>(together) * s.size);
#pragma omp for schedule(dynamic, 1)
        for (int task = 0; task < s.rows * s.groups; ++task) {
            const int row = task / s.groups, group = task % s.groups, position = positions[row];
            const int64_t first = (static_cast<int64_t>(row) * s.heads + group * together) * s.size;
            for (int i = 0; i < together * s.size; ++i) scaled[i] = to_float(queries[first + i]) * scale;
            const Cached<T> cached{keys + group * head_stride, values + group * head_stride,
                                   tables + static_cast<int64_t>(owners[row]) * s.table_width, page_stride,
                                   position + 1};
            const size_t needed = 4 * static_cast<size_t>(position + kLanes);
            if (scores.size() < needed) scores.resize(2 * needed);
            attend_group(scaled.data(), cached, together, s.size, scores.data(), out + first);
        }
    }
}

template <typename T>
void rotate_rows(T *x, const T *cosines, const T *sines, int rows, int heads, int size) {
#pragma omp parallel
    {
        std::vector<float> turned(size);
#pragma omp for
        for (int row = 0; row < rows; ++row)
            for (int head = 0; head < heads; ++head) {
                T *at = x + (static_cast<int64_t>(row) * heads + head) * size;
                const int64_t angle = static_cast<int64_t>(row) * size;
                rotate(at, cosines + angle, sines + angle, size, turned.data());
                for (int d = 0; d < size; ++d) put(at + d, turned[d]);
            }
    }
}

// Copy tokens' keys and values [tokens, groups, size] to where `places` says: token, page, place in the page.
template <typename T>
void store_rows(const T *keys, const T *values, const int32_t *places, int number, int groups, int size, T *key_pages,
                T *value_pages) {
    const int64_t head_stride = static_cast<int64_t>(kLanes) * size;
#pragma omp parallel for
    for (int i = 0; i < number; ++i) {
        const int64_t token = places[3 * i], page = places[3 * i + 1];
        const int place = places[3 * i + 2];
        for (int group = 0; group < groups; ++group) {
            const int64_t from = (token * groups + group) * size, to = (page * groups + group) * head_stride;
            for (int d = 0; d < size; ++d) key_pages[to + d * kLanes + place] = keys[from + d];
            std::memcpy(value_pages + to + place * size, values + from, sizeof(T) * size);
        }
    }
}

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

struct Candidate {
    float share;
    int32_t token;
    bool operator<(const Candidate &other) const {
        return share != other.share ? share > other.share : token < other.token;
    }
};

inline float largest(const float *x, int number) {
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int i = 0; i < number; ++i) most = std::max(most, x[i]);
    return most;
}

// shares[i] = e^((x[i] - most) * factor); returns their sum, in double over blocks of sixteen.
inline double weigh(const float *x, int number, float most, float factor, float *shares) {
    double total = 0.0;
    int i = 0;
    for (; i + kLanes <= number; i += kLanes) {
        const Lanes share = exp_of((load(x + i) - most) * factor);
        store(shares + i, share);
        total += sum_of(share);
    }
    for (; i < number; ++i) total += shares[i] = std::exp((x[i] - most) * factor);
    return total;
}

// The token at which the cumulative probability, from the likeliest on, passes uniform * (mass of the nucleus).
// Tokens of less than `left / vocabulary` each hold less than `left` together, so those below are never needed.
inline int32_t draw(const float *shares, double total, int number, int top_k, double top_p, double uniform,
                    std::vector<Candidate> &candidates) {
    const double left = top_k > 0 ? 0.0 : 1.0 - (top_p < 1.0 ? top_p : uniform);
    const float least = static_cast<float>(left / number * total);
    candidates.clear();
    for (int i = 0; i < number; ++i)
        if (shares[i] >= least) candidates.push_back({shares[i], i});
    if (top_k > 0 && top_k < static_cast<int>(candidates.size())) {
        std::nth_element(candidates.begin(), candidates.begin() + top_k, candidates.end());
        candidates.resize(top_k);
    }
    std::sort(candidates.begin(), candidates.end());
    double whole = total;
    if (top_k > 0) {
        whole = 0.0;
        for (const Candidate &candidate : candidates) whole += candidate.share;
    }
    double nucleus = whole;
    if (top_p < 1.0) {
        nucleus = 0.0;
        size_t size = 0;
        while (size < candidates.size() && nucleus < top_p * whole) nucleus += candidates[size++].share;
        candidates.resize(size);
    }
    double passed = 0.0;
    for (const Candidate &candidate : candidates) {
        passed += candidate.share;
        if (passed > uniform * nucleus) return candidate.token;
    }
    return candidates.empty() ? -1 : candidates.back().token;  // empty where logits are not numbers
}

}  // namespace

#define FOR_EACH_TYPE(T, NAME)                                                                                         \
    void attend_##NAME(const T *queries, const int32_t *owners, const int32_t *positions, const int32_t *tables,       \
                       const T *keys, const T *values, T *out, const int32_t *shape, float scale) {                    \
        attend_rows(queries, owners, positions, tables, keys, values, out,                                             \
                    Shape{shape[0], shape[1], shape[2], shape[3], shape[4]}, scale);                                   \
    }                                                                                                                  \
    void rotate_##NAME(T *x, const T *cosines, const T *sines, int rows, int heads, int size) {                        \
        rotate_rows(x, cosines, sines, rows, heads, size);                                                             \
    }                                                                                                                  \
    void store_##NAME(const T *keys, const T *values, const int32_t *places, int number, int groups, int size,         \
                      T *key_pages, T *value_pages) {                                                                  \
        store_rows(keys, values, places, number, groups, size, key_pages, value_pages);                                \
    }                                                                                                                  \
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

// A token for each row of logits [number, vocabulary]; temperature 0 takes the likeliest. Log-probabilities are of
// `plain`, the model's own logits. The token -1: logits that are not numbers.
void choose(const float *logits, const float *plain, const double *uniforms, int number, int vocabulary,
            float temperature, int top_k, double top_p, int32_t *tokens, float *logps) {
#pragma omp parallel
    {
        std::vector<Candidate> candidates;
        std::vector<float> shares(vocabulary);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < number; ++i) {
            const float *x = logits + static_cast<int64_t>(i) * vocabulary;
            const float *own = plain + static_cast<int64_t>(i) * vocabulary;
            if (temperature == 0.0f) {
                const float most = largest(x, vocabulary);
                tokens[i] = static_cast<int32_t>(std::find(x, x + vocabulary, most) - x);
            } else {
                const double total = weigh(x, vocabulary, largest(x, vocabulary), 1.0f / temperature, shares.data());
                tokens[i] = draw(shares.data(), total, vocabulary, top_k, top_p, uniforms[i], candidates);
            }
            if (tokens[i] < 0 || tokens[i] >= vocabulary) {
                tokens[i] = -1;
                continue;
            }
            const float most = largest(own, vocabulary);
            logps[i] = static_cast<float>(own[tokens[i]] - most - std::log(weigh(own, vocabulary, most, 1.0f, shares.data())));
        }
    }
}
}
