#include "tests/attention/cuda_emulation/fiber.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves the registers that a call must keep, and the stack pointer in *from; then the same backwards from `to`.
extern "C" void EarshotSwitchStacks(void** from, void* to);
asm(R"(
.text
.globl EarshotSwitchStacks
.type EarshotSwitchStacks, @function
EarshotSwitchStacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size EarshotSwitchStacks, .-EarshotSwitchStacks
)");
#endif

namespace earshot::emulation {
namespace {

// Who switched last, for the fiber that wakes.
Fiber* g_left = nullptr;

}  // namespace

Fiber::Fiber() = default;
Fiber::~Fiber() = default;

void Fiber::Start(void (*entry)()) {
  if (!stack_) stack_.reset(new char[kStackBytes]);
  stack_bottom_ = stack_.get();
  stack_size_ = kStackBytes;
  fake_stack_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack_.get(), kStackBytes);
#endif
#if defined(__x86_64__)
  // As if entry had been called: at its first instruction the stack is 8 past a multiple of 16.
  auto top = (reinterpret_cast<uintptr_t>(stack_.get()) + kStackBytes) & ~uintptr_t{15};
  void** slots = reinterpret_cast<void**>(top);
  *--slots = nullptr;
  *--slots = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slots = nullptr;
  stack_pointer_ = slots;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::Switch(Fiber& from, Fiber& to) {
  g_left = &from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_bottom_, to.stack_size_);
#endif
#if defined(__x86_64__)
  EarshotSwitchStacks(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  Fiber* left = g_left;
  __sanitizer_finish_switch_fiber(from.fake_stack_, &left->stack_bottom_, &left->stack_size_);
#endif
}

void Fiber::Entered() {
#if defined(__SANITIZE_ADDRESS__)
  Fiber* left = g_left;
  __sanitizer_finish_switch_fiber(nullptr, &left->stack_bottom_, &left->stack_size_);
#endif
}

}  // namespace earshot::emulation
