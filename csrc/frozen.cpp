#include "frozen.h"

namespace fastgru {

template <class Real>
FrozenLayer::FrozenLayer(const Kernels<Real>& kernels, const ForwardArgs<Real>& layer)
    : kernels_(&kernels), I_(layer.I), H_(layer.H), D_(layer.D), form_(layer.form), is_double_(sizeof(Real) == 8) {
  for (int64_t d = 0; d < D_; ++d) {
    places_[d][0] = layer.parameters[d].w_ih;
    places_[d][1] = layer.parameters[d].w_hh;
    packed_[d] = Buffer<char>(static_cast<size_t>(kernels.packed_elements(I_, H_)) * sizeof(Real));
    kernels.pack(layer.parameters[d], form_, I_, H_, reinterpret_cast<Real*>(packed_[d].data()));
    for (int64_t part = 0; part < kParts; ++part) {
      fingerprints_.push_back(kernels.fingerprint(layer.parameters[d], I_, H_, part, kParts));
    }
  }
}

template <class Real>
bool FrozenLayer::lend(const Kernels<Real>& kernels, ForwardArgs<Real>& args, bool doubts) const noexcept {
  const bool fits = args.I == I_ && args.H == H_ && args.D == D_ && args.form == form_ && is_double_ == (sizeof(Real) == 8);
  if (!fits) return false;
  if (kernels_ != &kernels) return true;  // another instruction set is forced: packed anew, and right
  for (int64_t d = 0; d < D_; ++d) {
    doubts = doubts || args.parameters[d].w_ih != places_[d][0] || args.parameters[d].w_hh != places_[d][1];
  }
  const auto own = static_cast<int64_t>(calls_.fetch_add(1, std::memory_order_relaxed) % kParts);
  for (int64_t part = doubts ? 0 : own; part < (doubts ? kParts : own + 1); ++part) {
    for (int64_t d = 0; d < D_; ++d) {
      const uint64_t found = kernels.fingerprint(args.parameters[d], I_, H_, part, kParts);
      if (found != fingerprints_[static_cast<size_t>(d * kParts + part)]) return false;
    }
  }
  for (int64_t d = 0; d < D_; ++d) args.packed[d] = reinterpret_cast<const Real*>(packed_[d].data());
  args.trusted = true;
  return true;
}

template FrozenLayer::FrozenLayer(const Kernels<float>&, const ForwardArgs<float>&);
template FrozenLayer::FrozenLayer(const Kernels<double>&, const ForwardArgs<double>&);
template bool FrozenLayer::lend(const Kernels<float>&, ForwardArgs<float>&, bool) const noexcept;
template bool FrozenLayer::lend(const Kernels<double>&, ForwardArgs<double>&, bool) const noexcept;

}  // namespace fastgru
