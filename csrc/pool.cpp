#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "spin.h"
#include "system.h"

namespace fastgru {
namespace {

// One call. It lives until the last thread has left it, which is all that `running` says.
struct Region {
  PoolBody body;
  void* context;
  int32_t size;
  std::atomic<int32_t> running;  // of the threads other than the caller
};

// A thread of the pool. It belongs to the list of idle ones, or to a call.
class Worker {
 public:
  Worker* next = nullptr;

  void start(Region& region, int32_t index) noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      index_ = index;
      region_.store(&region, std::memory_order_release);
    }
    wake_.notify_one();
  }

  [[noreturn]] void serve() noexcept {
    for (;;) {
      Region& region = await();
      region_.store(nullptr, std::memory_order_relaxed);
      region.body(index_, region.size, region.context);
      region.running.fetch_sub(1, std::memory_order_release);  // after this the region may be gone
    }
  }

 private:
  // Spins first: the next layer of a stack calls at once.
  Region& await() noexcept {
    for (Spin spin; !spin.is_long(); spin.turn()) {
      if (Region* region = region_.load(std::memory_order_acquire)) return *region;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return region_.load(std::memory_order_relaxed) != nullptr; });
    return *region_.load(std::memory_order_relaxed);
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<Region*> region_{nullptr};
  int32_t index_ = 0;
};

class Pool {
 public:
  void run(int32_t wanted, PoolBody body, void* context) {
    int32_t others = 0;
    Worker* team = take(wanted - 1, others);
    Region region{body, context, others + 1, {others}};
    int32_t index = 0;
    for (Worker* worker = team; worker; worker = worker->next) worker->start(region, ++index);
    body(0, others + 1, context);
    for (Spin spin; region.running.load(std::memory_order_acquire) > 0;) spin.turn();
    give_back(team);
  }

 private:
  // Up to `most` workers in a list, and how many they are.
  Worker* take(int32_t most, int32_t& count) {
    Worker* team = nullptr;
    const auto add = [&](Worker* worker) {
      worker->next = team;
      team = worker;
      ++count;
    };
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (count < most && idle_) {
        Worker* worker = idle_;
        idle_ = worker->next;
        add(worker);
      }
    }
    while (count < most) {
      Worker* worker = make();
      if (!worker) break;
      add(worker);
    }
    return team;
  }

  void give_back(Worker* team) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (team) {
      Worker* worker = team;
      team = worker->next;
      worker->next = idle_;
      idle_ = worker;
    }
  }

  // Null where there is no memory or no thread for another.
  static Worker* make() noexcept {
    try {
      auto worker = std::make_unique<Worker>();
      std::thread(&Worker::serve, worker.get()).detach();
      return worker.release();
    } catch (const std::bad_alloc&) {
      return nullptr;
    } catch (const std::system_error&) {
      return nullptr;
    }
  }

  std::mutex mutex_;
  Worker* idle_ = nullptr;
};

std::atomic<Pool*> current{nullptr};

// The parent's threads are not in the child, and its lock may be held there for ever.
void leave_pool() noexcept { current.store(nullptr, std::memory_order_relaxed); }

Pool& pool() {
  static const bool prepared = [] {
    at_fork(nullptr, nullptr, leave_pool);
    stay_loaded();
    return true;
  }();
  static_cast<void>(prepared);
  Pool* found = current.load(std::memory_order_acquire);
  if (found) return *found;
  auto made = std::make_unique<Pool>();
  if (!current.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel)) return *found;
  return *made.release();
}

}  // namespace

void run_on_pool(int32_t wanted, PoolBody body, void* context) { pool().run(wanted, body, context); }

}  // namespace fastgru
