// One layer's packed weights that are trusted from call to call, while nobody changes the weights.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "gru.h"
#include "memory.h"

namespace fastgru {

// May be used by several threads at once.
class FrozenLayer {
 public:
  // Of a layer's I, H, D, form and parameters, for these kernels. Throws std::bad_alloc.
  template <class Real>
  FrozenLayer(const Kernels<Real>& kernels, const ForwardArgs<Real>& layer);

  // Makes a call trust what was packed, if its kernels are the same. False where it is another layer, or where weights
  // have changed. It looks at all of them where they lie elsewhere, or `doubts`; otherwise at another part in each call,
  // so that a change which nobody tells is found within kParts calls.
  template <class Real>
  bool lend(const Kernels<Real>& kernels, ForwardArgs<Real>& args, bool doubts) const noexcept;

 private:
  static constexpr int64_t kParts = 64;

  const void* kernels_;
  const int64_t I_, H_, D_;
  const Form form_;
  const bool is_double_;
  Buffer<char> packed_[2];
  const void* places_[2][2];            // of w_ih and w_hh of each direction
  std::vector<uint64_t> fingerprints_;  // [D][kParts]
  mutable std::atomic<uint32_t> calls_{0};
};

extern template FrozenLayer::FrozenLayer(const Kernels<float>&, const ForwardArgs<float>&);
extern template FrozenLayer::FrozenLayer(const Kernels<double>&, const ForwardArgs<double>&);
extern template bool FrozenLayer::lend(const Kernels<float>&, ForwardArgs<float>&, bool) const noexcept;
extern template bool FrozenLayer::lend(const Kernels<double>&, ForwardArgs<double>&, bool) const noexcept;

}  // namespace fastgru
