#include "packed_cache.h"

#include <pthread.h>

#include <array>
#include <list>
#include <mutex>
#include <new>

#include "memory.h"

namespace fastgru {
namespace {

// What identifies a direction's packed weights: whose kernels, which form, which tensors, of what sizes.
struct Key {
  const void* kernels;
  Form form;
  std::array<const void*, 6> parameters;
  int64_t I, H;

  bool operator==(const Key& other) const noexcept {
    return kernels == other.kernels && form == other.form && parameters == other.parameters && I == other.I &&
           H == other.H;
  }
};

}  // namespace

struct PackedWeights {
  PackedWeights(const Key& its_key, size_t size) : key(its_key), bytes(size), memory(allocate(size)) {}
  ~PackedWeights() { release(memory); }
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  const Key key;
  const size_t bytes;
  void* const memory;
  uint64_t fingerprint = 0;  // in the cache neither this nor the memory changes any more
};

namespace {

using Entry = std::shared_ptr<PackedWeights>;

// Newest use first.
class Cache {
 public:
  Entry find(const Key& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if ((*it)->key == key) {
        entries_.splice(entries_.begin(), entries_, it);
        return *it;
      }
    }
    return nullptr;
  }

  void keep(const Entry& entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    remove_if([&](const Entry& other) { return other->key == entry->key; });
    entries_.push_front(entry);
    bytes_ += entry->bytes;
    while (bytes_ > kBytes && !entries_.empty()) {
      bytes_ -= entries_.back()->bytes;
      entries_.pop_back();
    }
  }

  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.clear();
    bytes_ = 0;
  }

  void drop(const Entry& entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    remove_if([&](const Entry& other) { return other == entry; });
  }

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  static constexpr auto kBytes = static_cast<size_t>(kKeptPackedBytes);

  template <class Condition>
  void remove_if(Condition condition) {
    entries_.remove_if([&](const Entry& entry) {
      if (!condition(entry)) return false;
      bytes_ -= entry->bytes;
      return true;
    });
  }

  std::mutex mutex_;
  std::list<Entry> entries_;
  size_t bytes_ = 0;
};

Cache& cache() {
  static Cache instance;
  // A fork while another thread holds the lock would leave it locked in the child for ever.
  static const int registered =
      pthread_atfork([] { instance.lock(); }, [] { instance.unlock(); }, [] { instance.unlock(); });
  static_cast<void>(registered);
  return instance;
}

}  // namespace

template <class Real>
PackedLoan<Real>::PackedLoan(const Kernels<Real>& kernels, ForwardArgs<Real>& args) {
  if (!kernels.reuses_packed(args)) return;
  args.packing = packing_;
  for (int64_t d = 0; d < args.D; ++d) {
    const Parameters<const Real>& p = args.parameters[d];
    const Key key{&kernels, args.form, {p.w_ih, p.w_hh, p.b_ih, p.b_hh, p.g_ih, p.g_hh}, args.I, args.H};
    lent_[d] = cache().find(key);
    if (lent_[d]) {
      args.packed[d] = static_cast<const Real*>(lent_[d]->memory);
      args.fingerprint[d] = lent_[d]->fingerprint;
    } else {
      const auto elements = static_cast<size_t>(kernels.packed_elements(args.I, args.H));
      lent_[d] = std::make_shared<PackedWeights>(key, elements * sizeof(Real));
      args.pack_into[d] = static_cast<Real*>(lent_[d]->memory);
    }
  }
}

template <class Real>
void PackedLoan<Real>::keep() noexcept {
  for (int64_t d = 0; d < 2; ++d) {
    if (!packing_[d].complete) continue;
    lent_[d]->fingerprint = packing_[d].fingerprint;
    try {
      cache().keep(lent_[d]);
    } catch (const std::bad_alloc&) {
      // the call is done and right; its weights will be packed again
    }
  }
}

template <class Real>
PackedLoan<Real>::~PackedLoan() {
  for (int64_t d = 0; d < 2; ++d) {
    if (packing_[d].stale) cache().drop(lent_[d]);
  }
}

void clear_packed() { cache().clear(); }

template class PackedLoan<float>;
template class PackedLoan<double>;

}  // namespace fastgru
