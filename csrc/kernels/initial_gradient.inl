// The gradient of the state that sequences start anew from. Each thread adds up what its sequences have.
#pragma once

#include "backward_part.inl"

namespace fastgru {
namespace {

template <class Real>
class InitialGradient {
 public:
  explicit InitialGradient(const BackwardPart<Real>& part) noexcept : p_(part) {}

  bool wanted() const noexcept { return p_.a.dinitial != nullptr; }

  void clear() noexcept {
    for (int64_t i = 0; wanted() && i < p_.work.h_panels * W2; i += W) store(sum(p_.group.index) + i, Vec<Real>{});
  }

  void add(int64_t unit, Vec<Real> v) noexcept {
    Real* to = sum(p_.group.index) + unit;
    store(to, load(to) + v);
  }

  // Adds up what the threads have; all of them are through with their steps.
  void write() noexcept {
    for (int64_t j = p_.blocks.begin; wanted() && j < p_.blocks.end; ++j) {
      alignas(64) Real total[W];
      store(total, load(sum(0) + j * W));
      for (int64_t i = 1; i < p_.group.size; ++i) store(total, load(total) + load(sum(i) + j * W));
      write_row(p_.a.dinitial + p_.d * p_.a.H + j * W, total, min_of(W, p_.a.H - j * W), false);
    }
  }

 private:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;

  // [h_panels, 2 * kLanes].
  Real* sum(int64_t thread) const noexcept { return p_.work.initial + thread * p_.work.h_panels * W2; }

  const BackwardPart<Real>& p_;
};

}  // namespace
}  // namespace fastgru
