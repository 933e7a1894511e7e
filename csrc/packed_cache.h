// Packed weights kept from one inference call to the next: of each layer by its owner, all together in kKeptPackedBytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "frozen.h"
#include "gru.h"

namespace fastgru {

struct PackedWeights;

// What identifies a direction's packed weights: whose they are, whose kernels, which form, which tensors, what sizes.
struct PackedKey {
  uint64_t owner;
  const void *kernels, *w_ih, *w_hh;
  int64_t direction, I, H;
  Form form;

  bool operator==(const PackedKey& other) const noexcept;
};

// Keeps a layer's packed weights, and frees them when it is destroyed. It holds a few sets of them, for those who call
// a layer with several weights in turn, the newest ones.
//
// A layer whose weights are copies made for one call (half precision, in float32) has an owner that goes by the sizes
// alone and not by the addresses, which are others at each call.
//
// May be used by several threads at once.
class PackedOwner {
 public:
  static constexpr size_t kSets = 8;
  explicit PackedOwner(size_t most = 2 * kSets);
  ~PackedOwner();
  PackedOwner(const PackedOwner&) = delete;
  PackedOwner& operator=(const PackedOwner&) = delete;

  // Trusts a layer's weights from now on (kernels, layer: as FrozenLayer takes them), of which torch counts these
  // versions. Once: std::runtime_error the second time.
  template <class Real>
  void freeze(const Kernels<Real>& kernels, const ForwardArgs<Real>& layer, std::vector<int64_t> versions) {
    auto made = std::make_unique<const Frozen>(kernels, layer, std::move(versions));
    const Frozen* none = nullptr;
    if (!frozen_.compare_exchange_strong(none, made.get())) throw std::runtime_error("it is frozen already");
    made.release();
  }
  const FrozenLayer* frozen() const noexcept {
    const Frozen* const found = frozen_.load();
    return found == nullptr ? nullptr : &found->layer;
  }
  // Of a frozen one.
  const std::vector<int64_t>& versions() const noexcept { return frozen_.load()->versions; }

  // This owner's own for layers whose weights are copies, made at its first use and destroyed with it. Itself, if it is
  // such a one.
  PackedOwner& of_copies();

 private:
  struct Frozen {
    template <class Real>
    Frozen(const Kernels<Real>& kernels, const ForwardArgs<Real>& of, std::vector<int64_t> counted)
        : layer(kernels, of), versions(std::move(counted)) {}
    const FrozenLayer layer;
    const std::vector<int64_t> versions;
  };

  template <class Real>
  friend class PackedLookup;
  friend class PackedCache;
  PackedOwner(size_t most, bool by_address);
  const uint64_t id_;
  const bool by_address_;
  const size_t most_;
  std::deque<PackedKey> keys_;  // oldest first; the cache's lock guards it
  std::once_flag made_;
  std::unique_ptr<PackedOwner> of_copies_;
  std::atomic<const Frozen*> frozen_{nullptr};  // owned; null: not frozen
};

// Finds a call the packed weights of its parameters, and keeps those that it packs. Entries are found by their key and
// proved by their fingerprint during the call, so they can be neither stale nor another layer's. An entry lives until
// it is found stale, its owner goes, or newer ones take its place; one in use lives on. Finding takes constant time.
template <class Real>
class PackedLookup {
 public:
  // Sets packed, fingerprint, pack_into and packing of args where keeping pays. owner null: the process's own, which
  // goes by addresses and keeps fewer bytes.
  PackedLookup(const Kernels<Real>& kernels, ForwardArgs<Real>& args, PackedOwner* owner = nullptr);
  // To be destroyed when the call is over, or has failed: drops what was found stale.
  ~PackedLookup();
  // To be called once the kernels have run: keeps what they packed, if nobody wrote to the parameters meanwhile.
  void keep() noexcept;
  PackedLookup(const PackedLookup&) = delete;
  PackedLookup& operator=(const PackedLookup&) = delete;

 private:
  PackedOwner& owner_;
  std::shared_ptr<PackedWeights> found_[2];
  Packing packing_[2] = {};
};

// Drops all packed weights that no call is using.
void clear_packed();

// Bytes of packed weights kept now.
size_t packed_bytes();

extern template class PackedLookup<float>;
extern template class PackedLookup<double>;

}  // namespace fastgru
