// CUDA blocks on the CPU, so that kernels are proved on machines without a GPU: the words of the language.
//
//   g++ -DEARSHOT_CUDA_EMULATION='"tests/.../emulated_primitives.h"' -x c++ kernel.cu ...   // what nvcc compiles
//   emulation::Run({grid_x, grid_y}, threads, shared_bytes, [&] { Kernel(arguments); });
//
// Every thread of a block is a fiber; blocks run one after the other. Barriers and warp collectives switch fibers, so a
// missing barrier shows. What is found, and thrown as std::runtime_error with the block and the threads:
//
//   - a barrier or collective that some threads of the block or warp do not reach, or reach at another operation;
//   - shared memory that two threads touch, one of them writing, where no barrier stands between them (a race), also by
//     cp.async; of several lanes of a warp that only read, the last two are known;
//   - shared memory out of bounds; copies never waited for;
//   - products of four warps, or waits for them, that are not the same in all four.
//
// cp.async copies at the wait, not before: the destination holds NaN until then. Shared memory starts as NaN too.
// Collectives need all 32 lanes. Not thread-safe: one emulation at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (::earshot::emulation::ThreadIndex())
#define blockIdx (::earshot::emulation::BlockIndex())
#define blockDim (::earshot::emulation::BlockSize())
#define gridDim (::earshot::emulation::GridSize())

namespace earshot::emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Runs body once for each thread of each block. Threads: a multiple of 32, at most 1024. With reversed_threads, the
// fibers of a block run in the opposite order, which a correct kernel does not notice.
void Run(Dim3 grid, int threads, int64_t shared_bytes, const std::function<void()>& body);
extern bool reversed_threads;
// Of the device: whether it has compute capability 9.0, and how many multiprocessors it seems to have.
extern bool hopper;
extern int multiprocessors;

Dim3 ThreadIndex();
Dim3 BlockIndex();
Dim3 BlockSize();
Dim3 GridSize();

void* SharedMemory();
// Tells the checks that the thread reads or writes these bytes of shared memory.
void NoteRead(const void* address, int bytes);
void NoteWrite(void* address, int bytes);

// cp.async: source null writes zeros.
void CopyAsync(void* target, const void* source, int bytes);
void CommitCopies();
void WaitCopies(int groups_left);

// Waits for all threads of the block; returns how many gave a true value.
int BlockBarrier(const char* kind, int value);

// mbarrier: a phase ends when `count` threads have come; who waits goes on once the one of the parity has ended, and
// after what those had done before they came.
void InitPhases(const void* barrier, int count);
void ArriveAtPhase(const void* barrier);
void WaitForPhase(const void* barrier, uint32_t parity);

// Something that the four warps of a group have to do all, in the same order: products, and waiting for them.
void NoteOfGroup(int what);

// Products in the background: a lane's wait until it asks for them.
void BeginProduct(std::function<void()> product);
void CommitProducts();
void WaitProducts(int groups_left);

// A warp's collective: every lane brings a pointer to its arguments, the last one to come calls operation with the 32
// pointers by lane. `ordering` as __syncwarp, after which the lanes see what the others wrote.
void WarpCollective(const char* kind, void* arguments, void (*operation)(void** lanes), bool ordering);

template <class T>
struct ShuffleSlot {
  T value, result;
  int source;
};

template <class T>
T Shuffle(const char* kind, T value, int source) {
  ShuffleSlot<T> slot{value, value, source};
  WarpCollective(
      kind, &slot,
      [](void** lanes) {
        for (int i = 0; i < 32; ++i) {
          auto* to = static_cast<ShuffleSlot<T>*>(lanes[i]);
          if (to->source >= 0 && to->source < 32) to->result = static_cast<ShuffleSlot<T>*>(lanes[to->source])->value;
        }
      },
      false);
  return slot.result;
}

void RequireFullMask(unsigned mask);
unsigned Ballot(const char* kind, bool value);
unsigned Reduce(unsigned value, bool all);  // bits that all, or any, of the lanes have
unsigned MatchAny(unsigned value);

}  // namespace earshot::emulation

inline void __syncthreads() { earshot::emulation::BlockBarrier("__syncthreads", 0); }
inline int __syncthreads_count(int value) { return earshot::emulation::BlockBarrier("__syncthreads_count", value); }
inline void __syncwarp(unsigned mask = ~0U) {
  earshot::emulation::RequireFullMask(mask);
  earshot::emulation::WarpCollective("__syncwarp", nullptr, nullptr, true);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::Shuffle("shfl.xor", value, static_cast<int>(threadIdx.x % 32) ^ lanes);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int lanes) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::Shuffle("shfl.up", value, static_cast<int>(threadIdx.x % 32) - lanes);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::Shuffle("shfl.idx", value, lane);
}
inline unsigned __ballot_sync(unsigned mask, bool value) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::Ballot("ballot", value);
}
inline bool __any_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) != 0; }
inline bool __all_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) == ~0U; }
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::Reduce(value, true);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::Reduce(value, false);
}
inline unsigned __match_any_sync(unsigned mask, unsigned value) {
  earshot::emulation::RequireFullMask(mask);
  return earshot::emulation::MatchAny(value);
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address += value;
  return before;
}
