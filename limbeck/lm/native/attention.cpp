// Attention over a cache of pages: rotate, store, attend.

#include "lanes.h"

namespace {

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
    int rows, heads, groups, size, table_width, page_stride;
};

// Rotated queries [rows, heads, size] attend to the positions up to their own of the sequence that `owners` names.
template <typename T>
void attend_rows(const T *queries, const int32_t *owners, const int32_t *positions, const int32_t *tables,
                 const T *keys, const T *values, T *out, const Shape &s, float scale) {
    const int together = s.heads / s.groups;
    const int64_t head_stride = static_cast<int64_t>(kLanes) * s.size;
#pragma omp parallel
    {
        std::vector<float> scores, scaled(static_cast<size_t>(together) * s.size);
#pragma omp for schedule(dynamic, 1)
        for (int task = 0; task < s.rows * s.groups; ++task) {
            const int row = task / s.groups, group = task % s.groups, position = positions[row];
            const int64_t first = (static_cast<int64_t>(row) * s.heads + group * together) * s.size;
            for (int i = 0; i < together * s.size; ++i) scaled[i] = to_float(queries[first + i]) * scale;
            const Cached<T> cached{keys + group * head_stride, values + group * head_stride,
                                   tables + static_cast<int64_t>(owners[row]) * s.table_width, s.page_stride,
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
                T *value_pages, int64_t page_stride) {
    const int64_t head_stride = static_cast<int64_t>(kLanes) * size;
#pragma omp parallel for
    for (int i = 0; i < number; ++i) {
        const int64_t token = places[3 * i], page = places[3 * i + 1];
        const int place = places[3 * i + 2];
        for (int group = 0; group < groups; ++group) {
            const int64_t from = (token * groups + group) * size, to = page * page_stride + group * head_stride;
            for (int d = 0; d < size; ++d) key_pages[to + d * kLanes + place] = keys[from + d];
            std::memcpy(value_pages + to + place * size, values + from, sizeof(T) * size);
        }
    }
}

}  // namespace

#define FOR_EACH_TYPE(T, NAME)                                                                                         \
    void attend_##NAME(const T *queries, const int32_t *owners, const int32_t *positions, const int32_t *tables,       \
                       const T *keys, const T *values, T *out, const int32_t *shape, float scale) {                    \
        attend_rows(queries, owners, positions, tables, keys, values, out,                                             \
                    Shape{shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]}, scale);                         \
    }                                                                                                                  \
    void rotate_##NAME(T *x, const T *cosines, const T *sines, int rows, int heads, int size) {                        \
        rotate_rows(x, cosines, sines, rows, heads, size);                                                             \
    }                                                                                                                  \
    void store_##NAME(const T *keys, const T *values, const int32_t *places, int number, int groups, int size,         \
                      T *key_pages, T *value_pages, int64_t page_stride) {                                             \
        store_rows(keys, values, places, number, groups, size, key_pages, value_pages, page_stride);                   \
    }

extern "C" {

FOR_EACH_TYPE(float, float32)
FOR_EACH_TYPE(bf16, bfloat16)
}
