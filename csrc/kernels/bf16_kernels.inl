// Kernels of float layers whose products are of bfloat16: x, h, the weights and the gates' gradients are rounded where
// they are multiplied. Sums, gates, states and all that is kept are float, and single steps are those of float.
#pragma once

#include "backward.inl"
#include "bf16_operands.inl"
#include "forward.inl"
#include "low_weights.inl"

namespace fastgru {
namespace {

// One gate of one block: kLanes rows of w [3H, K].
template <int kVectors>
void round_gate(const float* w, int64_t K, int64_t units, const LowPanels<Bf16, kVectors>& to, int64_t j,
                int64_t gate) noexcept {
  constexpr int64_t W = kLanes<float>;
  auto* at = const_cast<uint8_t*>(to.first.data) + j * to.first.pitch + gate * Bf16::kBytes;
  for (int64_t k = 0; k < K; k += 2 * W) {
    Vec<float> rows[W];
#pragma GCC unroll 16
    for (int64_t u = 0; u < W; ++u) {
      const float* from = w + u * K + k;
      rows[u] = u < units ? rounded_row(load_first(from, K - k), load_first(from + W, K - k - W)) : Vec<float>{};
    }
    transpose<float>(rows);
    const int64_t groups = min_of(divide_up(K - k, Bf16::kTerms), W);
    for (int64_t i = 0; i < groups; ++i) {
      store(reinterpret_cast<float*>(at + (k / Bf16::kTerms + i) * kVectors * Bf16::kBytes), rows[i]);
    }
  }
}

template <>
void LowPacked<Bf16>::pack_blocks(const Parameters<const float>& from, Form form, int64_t I, int64_t H, Range own,
                                  float* packed) noexcept {
  const LowPacked to(packed, I, H);
  to.for_gates(form, own, [&](bool of_x, int64_t row, int64_t units, const auto& panels, int64_t j, int64_t gate) {
    const int64_t K = of_x ? I : H;
    round_gate((of_x ? from.w_ih : from.w_hh) + row * K, K, units, panels, j, gate);
  });
  to.pack_vectors(from, form, own);
}

using RoundedWeights = LowPacked<Bf16>;

const Kernels<float>& unrounded() noexcept { return kernels_avx512().f32; }

void pack_rounded(const Parameters<const float>& from, Form form, int64_t I, int64_t H, float* to) noexcept {
  RoundedWeights::pack_blocks(from, form, I, H, {0, RoundedWeights::blocks(H)}, to);
}

// Single steps are computed from the weights as they lie, unless they must have the bits of a call of many steps.
bool is_unrounded(const ForwardArgs<float>& a) noexcept { return is_single_step(a) && !a.batch_invariant; }

int64_t rounded_forward_scratch(const ForwardArgs<float>& a, int32_t threads) noexcept {
  if (is_unrounded(a)) return unrounded().forward_scratch(a, threads);
  return directions_scratch<float, RoundedWeights>(a, threads);
}

void rounded_forward(const ForwardArgs<float>& a, float* scratch, const Team& team) noexcept {
  if (is_unrounded(a)) return unrounded().forward(a, scratch, team);
  using Workspace = ForwardWorkspace<float, RoundedWeights>;
  const auto weights_of = [&](const Group& group, int64_t d, const Workspace& work) {
    return packed_weights<RoundedWeights>(a, group, d, work.packed, work.parts);
  };
  forward_directions<RoundedWeights>(a, scratch, team, weights_of);
}

int64_t rounded_backward_scratch(const BackwardArgs<float>& a, int32_t threads) noexcept {
  if (is_single_step(a)) return unrounded().backward_scratch(a, threads);
  return directions_backward_scratch<Bf16Operands>(a, threads);
}

void rounded_backward(const BackwardArgs<float>& a, float* scratch, const Team& team) noexcept {
  if (is_single_step(a)) return unrounded().backward(a, scratch, team);
  backward_directions<Bf16Operands>(a, scratch, team);
}

}  // namespace

const Kernels<float>& rounding_kernels_avx512_bf16() noexcept {
  static const Kernels<float> kernels = [] {
    Kernels<float> made = unrounded();
    made.packed_elements = &RoundedWeights::elements;
    made.pack = &pack_rounded;
    made.forward_scratch = &rounded_forward_scratch;
    made.forward = &rounded_forward;
    made.backward_scratch = &rounded_backward_scratch;
    made.backward = &rounded_backward;
    return made;
  }();
  return kernels;
}

}  // namespace fastgru
