#include "packed_cache.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>

#include "memory.h"
#include "system.h"

namespace fastgru {

struct PackedWeights {
  PackedWeights(const PackedKey& its_key, size_t size) : key(its_key), bytes(size), memory(allocate(size)) {}
  ~PackedWeights() { release(memory); }
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  const PackedKey key;
  const size_t bytes;
  void* const memory;
  uint64_t fingerprint = 0;  // in the cache neither this nor the memory changes any more
};

bool PackedKey::operator==(const PackedKey& other) const noexcept {
  return owner == other.owner && kernels == other.kernels && w_ih == other.w_ih && w_hh == other.w_hh &&
         direction == other.direction && I == other.I && H == other.H && form == other.form;
}

namespace {

using Entry = std::shared_ptr<PackedWeights>;

struct Hash {
  size_t operator()(const PackedKey& key) const noexcept {
    size_t sum = std::hash<uint64_t>()(key.owner);
    for (const void* part : {key.kernels, key.w_ih, key.w_hh}) sum = sum * 31 + std::hash<const void*>()(part);
    return sum * 31 + static_cast<size_t>(key.direction);
  }
};

}  // namespace

// All entries, newest use first.
class PackedCache {
 public:
  Entry find(const PackedKey& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return *found->second;
  }

  void keep(const Entry& entry, PackedOwner& owner) {
    const std::lock_guard<std::mutex> lock(mutex_);
    erase(entry->key);
    entries_.push_front(entry);
    index_[entry->key] = entries_.begin();
    bytes_ += entry->bytes;
    owner.keys_.erase(std::remove(owner.keys_.begin(), owner.keys_.end(), entry->key), owner.keys_.end());
    owner.keys_.push_back(entry->key);
    for (; owner.keys_.size() > owner.most_; owner.keys_.pop_front()) erase(owner.keys_.front());
    while (bytes_ > kBytes) erase(PackedKey(entries_.back()->key));
  }

  // Where the cache has come to hold another entry under this key, that one stays.
  void drop(const Entry& entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = index_.find(entry->key);
    if (found != index_.end() && *found->second == entry) erase(entry->key);
  }

  void drop_all(PackedOwner& owner) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const PackedKey& key : owner.keys_) erase(key);
    owner.keys_.clear();
  }

  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    index_.clear();
    entries_.clear();
    bytes_ = 0;
  }

  size_t bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return bytes_;
  }

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  static constexpr auto kBytes = static_cast<size_t>(kKeptPackedBytes);

  void erase(const PackedKey& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return;
    bytes_ -= (*found->second)->bytes;
    entries_.erase(found->second);
    index_.erase(found);
  }

  std::mutex mutex_;
  std::list<Entry> entries_;
  std::unordered_map<PackedKey, std::list<Entry>::iterator, Hash> index_;
  size_t bytes_ = 0;
};

namespace {

// Never destroyed: layers may outlive it at the end of the process.
PackedCache& cache() {
  static PackedCache& instance = *new PackedCache;
  // A fork while another thread holds the lock would leave it locked in the child for ever.
  static const bool prepared =
      (at_fork([] { instance.lock(); }, [] { instance.unlock(); }, [] { instance.unlock(); }), true);
  static_cast<void>(prepared);
  return instance;
}

// Of layers without an owner: programs that were compiled or exported. When they go nobody tells.
PackedOwner& process_owner() {
  constexpr size_t kMost = 64;
  static PackedOwner& instance = *new PackedOwner(kMost);
  return instance;
}

uint64_t next_id() noexcept {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

PackedOwner::PackedOwner(size_t most) : PackedOwner(most, true) {}

PackedOwner::PackedOwner(size_t most, bool by_address) : id_(next_id()), by_address_(by_address), most_(most) {}

PackedOwner& PackedOwner::of_copies() {
  if (!by_address_) return *this;
  std::call_once(made_, [this] { of_copies_.reset(new PackedOwner(most_, false)); });
  return *of_copies_;
}

PackedOwner::~PackedOwner() {
  cache().drop_all(*this);
  delete frozen_.load();
}

template <class Real>
PackedLookup<Real>::PackedLookup(const Kernels<Real>& kernels, ForwardArgs<Real>& args, PackedOwner* owner)
    : owner_(owner ? *owner : process_owner()) {
  if (!kernels.reuses_packed(args)) return;
  args.packing = packing_;
  for (int64_t d = 0; d < args.D; ++d) {
    const Parameters<const Real>& p = args.parameters[d];
    const bool by_address = owner_.by_address_;
    const PackedKey key{owner_.id_, &kernels,           by_address ? p.w_ih : nullptr, by_address ? p.w_hh : nullptr, d,
                        args.I,     args.H, args.form};
    found_[d] = cache().find(key);
    if (found_[d]) {
      args.packed[d] = static_cast<const Real*>(found_[d]->memory);
      args.fingerprint[d] = found_[d]->fingerprint;
    } else {
      const auto elements = static_cast<size_t>(kernels.packed_elements(args.I, args.H));
      found_[d] = std::make_shared<PackedWeights>(key, elements * sizeof(Real));
      args.pack_into[d] = static_cast<Real*>(found_[d]->memory);
    }
  }
}

template <class Real>
void PackedLookup<Real>::keep() noexcept {
  for (int64_t d = 0; d < 2; ++d) {
    if (!packing_[d].complete) continue;
    found_[d]->fingerprint = packing_[d].fingerprint;
    try {
      cache().keep(found_[d], owner_);
    } catch (const std::bad_alloc&) {
      // the call is done and right; its weights will be packed again
    }
  }
}

template <class Real>
PackedLookup<Real>::~PackedLookup() {
  for (int64_t d = 0; d < 2; ++d) {
    if (packing_[d].stale) cache().drop(found_[d]);
  }
}

void clear_packed() { cache().clear(); }

size_t packed_bytes() { return cache().bytes(); }

template class PackedLookup<float>;
template class PackedLookup<double>;

}  // namespace fastgru
