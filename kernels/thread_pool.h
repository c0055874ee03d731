// Threads that share the work of a kernel.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace {

// Threads that take tasks: awake for a while, since calls follow each other and waking up takes longer than the
// shortest of them, then asleep. The caller takes tasks too, so that it never waits for a thread that has not begun.
// Never destroyed: a thread may still wait when the process ends.
class ThreadPool {
 public:
  static ThreadPool& global() {
    static ThreadPool* pool = new ThreadPool;
    return *pool;
  }

  // Calls job(i) for i < tasks, in `threads` threads with this one, and waits; all in this one where the others are at
  // work for another caller. The job throws nothing.
  void run(unsigned long tasks, long threads, const std::function<void(long)>& job) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn || threads <= 1) {
      for (unsigned long i = 0; i < tasks; ++i) job(i);
      return;
    }
    for (; size_ < threads; ++size_) std::thread(&ThreadPool::serve, this).detach();
    job_ = &job, undone_ = tasks;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      untaken_ = tasks;
    }
    wake_.notify_all();
    work();
    for (long spins = 0; undone_; ++spins) pause(spins);
  }

 private:
  static void pause(long spins) {
#if defined(__x86_64__)
    if (spins < 5000) return __builtin_ia32_pause();
#endif
    std::this_thread::yield();
  }

  void work() {
    for (unsigned long n = untaken_; n; n = untaken_)
      if (untaken_.compare_exchange_weak(n, n - 1)) (*job_)(n - 1), --undone_;  // the job of the task just taken
  }

  void serve() {
    for (;;) {
      for (long spins = 0; !untaken_ && spins < 5000; ++spins) pause(spins);
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return untaken_ > 0; });
      }
      work();
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned long> untaken_{0}, undone_{0};  // tasks of the job
  const std::function<void(long)>* job_ = nullptr;
  long size_ = 1;  // threads, with the caller
};

// How many of `threads` there is work for, a `unit` at least for each.
long useful_threads(long threads, long count, long unit) { return std::min(threads, (count + unit - 1) / unit); }

// Calls work(first, last, index) with a share of `count` for each thread, of whole `unit`s, or with `tasks` shares for
// each, so that none waits long for another; waits for all.
template <class Work>
void parallel(long count, long unit, long threads, const Work& work, long tasks = 1) {
  const long units = (count + unit - 1) / unit, shares = useful_threads(tasks * threads, count, unit);
  const auto edge = [&](long i) { return i == shares ? count : units * i / shares * unit; };
  ThreadPool::global().run(shares, std::min(threads, shares), [&](long i) { work(edge(i), edge(i + 1), i); });
}

}  // namespace
