// Stacks that one thread of the CPU runs in turn. On x86-64 a switch is a few instructions; elsewhere ucontext, which
// asks the kernel each time, does. Tells AddressSanitizer about every switch.
//
//   Fiber main, worker;
//   worker.Start(Entry);                // Entry() runs at the first switch and never returns
//   Fiber::Switch(main, worker);        // comes back when somebody switches to main
#pragma once

#include <cstddef>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace earshot::emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // May be called again to begin anew: what was on the stack is forgotten, not destroyed.
  void Start(void (*entry)());
  static void Switch(Fiber& from, Fiber& to);
  // To be the first thing that entry does.
  static void Entered();

 private:
  static constexpr size_t kStackBytes = 256 * 1024;

  std::unique_ptr<char[]> stack_;
  const void* stack_bottom_ = nullptr;  // the main fiber's are learnt at the first switch
  size_t stack_size_ = 0;
  void* fake_stack_ = nullptr;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace earshot::emulation
