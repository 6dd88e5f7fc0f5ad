// From logits to tokens.

#include "lanes.h"

namespace {

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

extern "C" {

// Logits [number, vocabulary] where a token's bit is set, minus infinity elsewhere; 32 tokens a word, the lowest bit first.
void only(const float *logits, const uint32_t *allowed, int number, int vocabulary, float *out) {
    const int words = (vocabulary + 31) / 32;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < number; ++i) {
        const uint32_t *bits = allowed + static_cast<int64_t>(i) * words;
        const float *x = logits + static_cast<int64_t>(i) * vocabulary;
        float *y = out + static_cast<int64_t>(i) * vocabulary;
        for (int word = 0; word < words; ++word) {
            const int begin = word * 32, width = std::min(32, vocabulary - begin);
            const uint32_t set = bits[word];
#pragma omp simd
            for (int bit = 0; bit < width; ++bit) y[begin + bit] = (set >> bit) & 1u ? x[begin + bit] : -INFINITY;
        }
    }
}

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
