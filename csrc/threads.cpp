#include "threads.h"

#include <atomic>

#include "pool.h"
#include "spin.h"
#include "system.h"

namespace fastgru {

class Barrier {
 public:
  void wait(int32_t count) noexcept {
    const int32_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (Spin spin; round_.load(std::memory_order_acquire) == round;) spin.turn();
  }

 private:
  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<int32_t> round_{0};
};

void wait_at(Barrier& barrier, int32_t count) noexcept { barrier.wait(count); }

namespace {

using Body = void (*)(const Team&, void*) noexcept;

struct Region {
  Body body;
  void* context;
  Barrier all, group[2];

  void run(int32_t index, int32_t size) noexcept {
    body({index, size, &all, {&group[0], &group[1]}}, context);
  }
};

// What `#pragma omp parallel num_threads` becomes, in GNU's library and in LLVM's.
struct OpenMp {
  void (*parallel)(void (*body)(void* data), void* data, unsigned threads, unsigned flags);
  int (*thread_num)();
  int (*num_threads)();

  void run(int32_t size, Region& region) const {
    struct Call {
      const OpenMp& openmp;
      Region& region;
    };
    Call call{*this, region};
    const auto body = [](void* data) {
      const auto& c = *static_cast<const Call*>(data);
      c.region.run(c.openmp.thread_num(), c.openmp.num_threads());
    };
    parallel(body, &call, static_cast<unsigned>(size), 0);
  }
};

// Null: the pool. Set once, and null again in a forked child.
std::atomic<const OpenMp*> openmp{nullptr};

void leave_openmp() noexcept { openmp.store(nullptr, std::memory_order_relaxed); }

template <class Function>
bool find(const char* name, Function& function) noexcept {
  function = reinterpret_cast<Function>(openmp_of_torch(name));
  return function != nullptr;
}

const OpenMp* find_openmp() noexcept {
  static OpenMp found;
  const bool whole = find("GOMP_parallel", found.parallel) && find("omp_get_thread_num", found.thread_num) &&
                     find("omp_get_num_threads", found.num_threads);
  if (!whole) return nullptr;
  at_fork(nullptr, nullptr, leave_openmp);
  return &found;
}

}  // namespace

void use_threads_of_torch() noexcept {
  static const OpenMp* const found = find_openmp();
  openmp.store(found, std::memory_order_release);
}

void run_team(int32_t size, Body body, void* context) {
  Region region{body, context, {}, {}};
  const OpenMp* const of_torch = openmp.load(std::memory_order_acquire);
  if (size == 1) {
    region.run(0, 1);
  } else if (of_torch) {
    of_torch->run(size, region);
  } else {
    const auto run = [](int32_t index, int32_t count, void* data) noexcept {
      static_cast<Region*>(data)->run(index, count);
    };
    run_on_pool(size, run, &region);
  }
}

}  // namespace fastgru
