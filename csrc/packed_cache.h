// Packed weights kept from one inference call to the next.
#pragma once

#include <cstdint>
#include <memory>

#include "gru.h"

namespace fastgru {

struct PackedWeights;

// Lends a call the packed weights of its parameters, and keeps those that it packs. Entries are found by the
// parameters' addresses and sizes and proved by their fingerprint during the call, so they can be neither
// stale nor another layer's. An entry lives until it is found stale, or the newest entries fill 256 MiB;
// one in use lives on. Several threads may call at once.
template <class Real>
class PackedLoan {
 public:
  // Sets packed, fingerprint, pack_into and packing of args where keeping pays.
  PackedLoan(const Kernels<Real>& kernels, ForwardArgs<Real>& args);
  // To be destroyed when the call is over, or has failed: drops what was found stale.
  ~PackedLoan();
  // To be called once the kernels have run: keeps what they packed, if nobody wrote to the parameters meanwhile.
  void keep() noexcept;
  PackedLoan(const PackedLoan&) = delete;
  PackedLoan& operator=(const PackedLoan&) = delete;

 private:
  std::shared_ptr<PackedWeights> lent_[2];
  Packing packing_[2] = {};
};

// Drops all packed weights that no call is using.
void clear_packed();

extern template class PackedLoan<float>;
extern template class PackedLoan<double>;

}  // namespace fastgru
