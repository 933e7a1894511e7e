// Whether weights are still those that were packed. Versions and addresses cannot tell: a write through
// `.data` changes neither. So the numbers themselves are read, once.
#pragma once

#include "gru.h"
#include "range.inl"

namespace fastgru {
namespace {

typedef uint64_t Words __attribute__((vector_size(kVectorBytes)));

// Of each 64-bit lane, the product of its halves.
FASTGRU_INLINE Words multiply_halves(Words v) noexcept {
#if defined(__AVX512F__)
  const auto x = reinterpret_cast<__m512i>(v);
  return reinterpret_cast<Words>(_mm512_mul_epu32(x, _mm512_srli_epi64(x, 32)));
#elif defined(__AVX2__)
  const auto x = reinterpret_cast<__m256i>(v);
  return reinterpret_cast<Words>(_mm256_mul_epu32(x, _mm256_srli_epi64(x, 32)));
#else
  return (v & 0xffffffffu) * (v >> 32);
#endif
}

// One sum over several vectors would wait for itself. And what is read lies in small pages, where the processor's own
// prefetching ends at each page's end: at 6 MB, with both, 26 against 11 GB/s (Zen 3). Read beside the products, a
// piece after each tile, it costs more than before them: 3 to 9 % of a call of 1.5 to 6 MB, less with larger pieces.
constexpr int64_t kFingerprintSums = 4, kFingerprintAhead = 4096;

// The hash NH (Black et al. 1999, UMAC) with a key that runs on from vector to vector, plus the numbers
// themselves. A change goes unseen with a chance of about 2^-32; the key is no secret, so numbers can be made up
// whose change does not show, which training does not do. Parts add up: part i of n reads an n-th of the tensor.
template <class Real>
uint64_t fingerprint_tensor(const Real* from, int64_t count, uint64_t seed, int64_t part, int64_t parts) noexcept {
  constexpr int64_t W = kLanes<Real>, S = kFingerprintSums;
  if (!from) return 0;
  const Range own = part_of({0, divide_up(count, W)}, part, parts);
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  constexpr int64_t kWords = kVectorBytes / 8;
  Words keys[S] = {}, sums[S] = {};
  for (int64_t i = 0; i < S * kWords; ++i) {
    const auto word = static_cast<uint64_t>(i % kWords), vector = static_cast<uint64_t>(own.begin + i / kWords);
    keys[i / kWords][i % kWords] = (seed + word) * 0xbf58476d1ce4e5b9 + vector * kStep;
  }
  const auto add = [&](int64_t s, Vec<Real> numbers) __attribute__((always_inline)) {
    const auto words = reinterpret_cast<Words>(numbers);
    sums[s] += multiply_halves(words ^ keys[s]) + words;
    keys[s] += S * kStep;
  };
  int64_t v = own.begin;
  for (; v + S <= min_of(own.end, count / W); v += S) {
#pragma GCC unroll 4
    for (int64_t s = 0; s < S; ++s) {
      __builtin_prefetch(reinterpret_cast<const char*>(from + (v + s) * W) + kFingerprintAhead, 0, 3);
      add(s, load(from + (v + s) * W));
    }
  }
  for (int64_t s = 0; v < own.end; ++v, ++s) {
    const int64_t left = count - v * W;
    add(s, left >= W ? load(from + v * W) : load_lanes(from + v * W, left));
  }
  uint64_t total = 0;
  for (int64_t i = 0; i < S * kWords; ++i) {
    total += sums[i / kWords][i % kWords] * (2 * static_cast<uint64_t>(i % kWords) + 1);
  }
  return total;
}

template <class Real>
uint64_t fingerprint_part(const Parameters<const Real>& p, int64_t I, int64_t H, int64_t part, int64_t parts) noexcept {
  return fingerprint_tensor(p.w_ih, 3 * H * I, 1, part, parts) +
         fingerprint_tensor(p.w_hh, 3 * H * H, 101, part, parts) + fingerprint_tensor(p.b_ih, 3 * H, 201, part, parts) +
         fingerprint_tensor(p.b_hh, 3 * H, 301, part, parts) + fingerprint_tensor(p.g_ih, 3 * H, 401, part, parts) +
         fingerprint_tensor(p.g_hh, 3 * H, 501, part, parts);
}

}  // namespace
}  // namespace fastgru
