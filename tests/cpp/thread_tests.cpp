// Teams of the pool, without Python and without OpenMP: many callers, forks, and the end of the process.
//
//   thread_tests              tests; a difference returns 1
//   thread_tests --no-forks   without forks: qemu-user 7.2 ends where a process with threads forks
//   thread_tests --time       prints what a call of two threads takes, after a call and after a pause
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "threads.h"

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define FASTGRU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FASTGRU_TSAN 1
#endif
#endif

namespace fastgru::tests {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kMost = 5, kSteps = 10;

// What a team leaves: each member writes its own number, then reads its neighbour's, step by step.
struct Ring {
  int64_t numbers[kMost] = {};  // no atomics: the barriers alone order them
  std::atomic<int32_t> members{0}, size{0}, wrong{0};
};

void go_round(const Team& team, void* context) noexcept {
  Ring& ring = *static_cast<Ring*>(context);
  ring.members.fetch_add(1);
  ring.size.store(team.size);
  const int32_t next = (team.index + 1) % team.size;
  for (int64_t step = 1; step <= kSteps; ++step) {
    ring.numbers[team.index] = step * 100 + team.index;
    wait_at(*team.all, team.size);
    if (ring.numbers[next] != step * 100 + next) ring.wrong.fetch_add(1);
    wait_at(*team.all, team.size);
  }
}

bool team_is_whole(int32_t size) {
  Ring ring;
  run_team(size, go_round, &ring);
  return ring.members == size && ring.size == size && ring.wrong == 0;
}

bool teams_are_whole(int rounds) {
  bool good = true;
  for (int i = 0; i < rounds; ++i) {
    for (int32_t size = 1; size <= kMost; ++size) good &= team_is_whole(size);
  }
  return good;
}

// Each of several threads has teams of its own, also of threads that were another's before.
bool callers_are_apart() {
  std::atomic<bool> good{true};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      if (!teams_are_whole(3)) good = false;
    });
  }
  for (std::thread& caller : callers) caller.join();
  return good;
}

#if !defined(_WIN32) && !defined(FASTGRU_TSAN)

// Whether a child has teams, and children too: what a lost thread would never do, an alarm ends.
bool child_has_teams(int generations) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    const bool good = teams_are_whole(1) && (generations == 1 || child_has_teams(generations - 1));
    _exit(good ? 0 : 1);
  }
  int status = 1;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

// Forks while other threads are in calls: a lock that one of them holds is another process's.
bool forks_are_harmless() {
  std::atomic<bool> done{false}, good{true};
  std::thread caller([&] {
    while (!done) {
      if (!team_is_whole(2)) good = false;
    }
  });
  for (int i = 0; i < 5; ++i) good = child_has_teams(2) && good;
  done = true;
  caller.join();
  return good && teams_are_whole(1);
}

#else

bool forks_are_harmless() { return true; }  // none here, or ThreadSanitizer ends a child that makes threads

#endif

struct Instants {
  Clock::time_point begin, woken;
};

void note_woken(const Team& team, void* context) noexcept {
  if (team.index == 1) static_cast<Instants*>(context)->woken = Clock::now();
}

// The median over some calls: until the second thread begins, and until the call is over.
void print_times(const char* when, std::chrono::microseconds pause) {
  constexpr size_t kCalls = 301;
  std::vector<double> woken, over;
  for (size_t i = 0; i < kCalls; ++i) {
    std::this_thread::sleep_for(pause);
    Instants at{Clock::now(), {}};
    run_team(2, note_woken, &at);
    const auto micros = [&](Clock::time_point end) {
      return std::chrono::duration<double, std::micro>(end - at.begin).count();
    };
    woken.push_back(micros(at.woken));
    over.push_back(micros(Clock::now()));
  }
  for (auto* times : {&woken, &over}) std::sort(times->begin(), times->end());
  std::printf("%s: woken in %.1f us (a tenth in %.1f), over in %.1f us\n", when, woken[kCalls / 2], woken[kCalls / 10],
              over[kCalls / 2]);
}

int print_all_times() {
  print_times("at once", std::chrono::microseconds(0));
  print_times("after 200 us", std::chrono::microseconds(200));
  print_times("after 5 ms", std::chrono::milliseconds(5));
  return 0;
}

int run_tests(bool forks) {
  bool good = true;
  const auto expect = [&](const char* what, bool is_so) {
    if (!is_so) std::printf("not so: %s\n", what);
    good &= is_so;
  };
  expect("teams are whole", teams_are_whole(10));
  expect("callers are apart", callers_are_apart());
  if (forks) expect("forks are harmless", forks_are_harmless());
  std::printf("threads: %s\n", good ? "good" : "BAD");
  return good ? 0 : 1;  // with the pool's threads asleep
}

}  // namespace
}  // namespace fastgru::tests

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  return option == "--time" ? fastgru::tests::print_all_times() : fastgru::tests::run_tests(option != "--no-forks");
}
