#include "tests/attention/cuda_emulation/cuda_emulation.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/attention/cuda_emulation/fiber.h"

namespace earshot::emulation {

bool reversed_threads = false;
bool hopper = true;
int multiprocessors = 1;

namespace {

struct Copy {
  void* target;
  const void* source;
  int bytes;
};

// What of each thread's time is known to lie in the past: a vector clock (Lamport 1978; FastTrack, Flanagan and Freund
// 2009). A thread's own time goes on whenever it tells others what it knows.
using Clock = std::vector<uint32_t>;

struct Thread {
  Fiber fiber;
  int index = 0;
  Clock clock;
  const char* waits_at = nullptr;  // null: runs or is done
  bool done = false;
  std::vector<std::vector<Copy>> groups;  // committed, oldest first
  std::vector<Copy> open_group;
  std::deque<std::vector<std::function<void()>>> products;  // committed groups, oldest first
  std::vector<std::function<void()>> open_products;
  int barrier_result = 0;
};

struct Warp {
  const char* kind = nullptr;
  void* arguments[32];
  int arrived = 0;
  int first_lane = 0;
  std::vector<int8_t> of_group;  // NoteOfGroup
};

// When a thread touched two bytes of shared memory.
struct Touch {
  int16_t thread = -1;
  uint32_t time = 0;
};
// The last write, and of each warp the last read and the last one of another lane.
struct Unit {
  uint32_t block = 0;  // what is older belongs to another block
  Touch written;
};
struct Reads {
  Touch last, other;
};

constexpr std::align_val_t kSharedAlignment{1024};
struct AlignedDelete {
  void operator()(char* bytes) const { ::operator delete[](bytes, kSharedAlignment); }
};

struct Phases {
  int arrived = 0, count = 0;
  Clock told, known;  // by those who have arrived in this phase; at the end of the last one
  uint32_t ended = 0;
  std::vector<Thread*> waiting;
};

struct Block {
  std::map<const void*, Phases> phases;
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::unique_ptr<char[], AlignedDelete> shared;
  int64_t shared_bytes = 0;
  std::vector<Unit> units;
  std::vector<Reads> reads;  // (units, warps)
  uint32_t number = 0;       // of this block, from 1
  int num_threads = 0;
  int barrier_arrived = 0, barrier_count = 0;
  const char* barrier_kind = nullptr;
  std::deque<Thread*> ready;
  Thread* current = nullptr;
  Fiber main;
  std::string error;
  Dim3 index, grid;
  const std::function<void()>* body = nullptr;
};

Block g_block;

std::string Where() {
  const int thread = g_block.current ? g_block.current->index : -1;
  return " (block " + std::to_string(g_block.index.x) + "," + std::to_string(g_block.index.y) + ", thread " +
         std::to_string(thread) + ")";
}

struct Failure {};

// Gives up the block: the fiber unwinds, main throws, the other fibers are forgotten.
void Fail(const std::string& message) {
  g_block.error = message + Where();
  throw Failure();
}

void SwitchAway() {
  Thread* from = g_block.current;
  if (g_block.ready.empty()) {
    Fiber::Switch(from->fiber, g_block.main);
  } else {
    Thread* to = g_block.ready.front();
    g_block.ready.pop_front();
    g_block.current = to;
    Fiber::Switch(from->fiber, to->fiber);
  }
}

void RunThread() {
  (*g_block.body)();
  const Thread& thread = *g_block.current;
  bool pending = !thread.open_group.empty();
  for (const auto& group : thread.groups) pending = pending || !group.empty();
  if (pending) Fail("cp.async was never waited for");
  if (!thread.products.empty() || !thread.open_products.empty()) Fail("products were never waited for");
}

void ThreadEntry() {
  Fiber::Entered();
  try {
    RunThread();
  } catch (const Failure&) {
  }
  Thread* thread = g_block.current;
  if (!g_block.error.empty()) Fiber::Switch(thread->fiber, g_block.main);
  thread->done = true;
  SwitchAway();
}

void Learn(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

// These threads learn from each other what they all know.
void Meet(int first, int count) {
  Clock all;
  for (int i = first; i < first + count; ++i) Learn(all, g_block.threads[i]->clock);
  for (int i = first; i < first + count; ++i) {
    Thread& thread = *g_block.threads[i];
    thread.clock = all;
    ++thread.clock[i];
  }
}

// Whether nothing says that an earlier touch came before what the thread does now.
bool Unordered(const Touch& earlier, const Thread& thread) {
  return earlier.thread >= 0 && earlier.thread != thread.index && thread.clock[earlier.thread] < earlier.time;
}

void Race(const char* what, const void* address, int other) {
  Fail("shared memory race: " + std::string(what) + " at byte " +
       std::to_string(static_cast<const char*>(address) - g_block.shared.get()) + ", with thread " +
       std::to_string(other));
}

int64_t UnitOf(const void* address, int bytes) {
  const int64_t offset = static_cast<const char*>(address) - g_block.shared.get();
  if (offset < 0 || offset + bytes > g_block.shared_bytes)
    Fail("shared memory out of bounds at byte " + std::to_string(offset) + " of " +
         std::to_string(g_block.shared_bytes));
  if (offset % (bytes < 16 ? bytes : 16) != 0) Fail("misaligned shared memory at byte " + std::to_string(offset));
  return offset / 2;
}

void Complete(std::vector<Copy>& group) {
  for (const Copy& copy : group) {
    NoteWrite(copy.target, copy.bytes);
    if (copy.source) {
      std::memcpy(copy.target, copy.source, copy.bytes);
    } else {
      std::memset(copy.target, 0, copy.bytes);
    }
  }
}

void RunBlock() {
  Block& b = g_block;
  b.barrier_arrived = b.barrier_count = 0;
  b.phases.clear();
  b.ready.clear();
  b.warps.assign(b.num_threads / 32, Warp());
  ++b.number;
  b.units.resize(b.shared_bytes / 2 + 1);
  b.reads.resize(b.units.size() * b.warps.size());
  std::memset(b.shared.get(), 0xFF, b.shared_bytes);
  while (static_cast<int>(b.threads.size()) < b.num_threads) b.threads.push_back(std::make_unique<Thread>());
  for (int i = 0; i < b.num_threads; ++i) {
    Thread& thread = *b.threads[i];
    thread.index = i, thread.done = false, thread.waits_at = nullptr;
    thread.groups.clear(), thread.open_group.clear();
    thread.products.clear(), thread.open_products.clear();
    thread.clock.assign(b.num_threads, 0);
    thread.clock[i] = 1;
    thread.fiber.Start(ThreadEntry);
    if (reversed_threads) {
      b.ready.push_front(&thread);
    } else {
      b.ready.push_back(&thread);
    }
  }
  b.current = b.ready.front();
  b.ready.pop_front();
  Fiber::Switch(b.main, b.current->fiber);
  if (!b.error.empty()) throw std::runtime_error(b.error);
  for (int i = 0; i < b.num_threads; ++i) {
    if (b.threads[i]->done) continue;
    std::string message = "divergent barrier: thread " + std::to_string(i) + " waits for ever at " +
                          (b.threads[i]->waits_at ? b.threads[i]->waits_at : "?");
    for (int j = 0; j < b.num_threads; ++j) {
      if (b.threads[j]->done) {
        message += ", thread " + std::to_string(j) + " has left";
        break;
      }
      if (b.threads[j]->waits_at != b.threads[i]->waits_at) {
        message += ", thread " + std::to_string(j) + " at " + b.threads[j]->waits_at;
        break;
      }
    }
    b.current = nullptr;
    throw std::runtime_error(message + Where());
  }
  b.current = nullptr;
  for (size_t w = 0; w < b.warps.size(); ++w) {
    const std::vector<int8_t>& first = b.warps[w / 4 * 4].of_group;
    if (b.warps[w].of_group == first) continue;
    throw std::runtime_error("divergent group: warp " + std::to_string(w) +
                             " waits for products, or begins some, that warp " + std::to_string(w / 4 * 4) +
                             " does not" + Where());
  }
}

}  // namespace

void Run(Dim3 grid, int threads, int64_t shared_bytes, const std::function<void()>& body) {
  Block& b = g_block;
  if (threads % 32 != 0 || threads <= 0 || threads > 1024) throw std::runtime_error("threads are no whole warps");
  b.error.clear();
  b.num_threads = threads, b.grid = grid, b.body = &body;
  b.shared_bytes = shared_bytes;
  b.shared.reset(static_cast<char*>(::operator new[](shared_bytes + 1, kSharedAlignment)));
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      b.index = {x, y, 0};
      RunBlock();
    }
  }
}

Dim3 ThreadIndex() { return {static_cast<unsigned>(g_block.current->index), 0, 0}; }
Dim3 BlockIndex() { return g_block.index; }
Dim3 BlockSize() { return {static_cast<unsigned>(g_block.num_threads), 1, 1}; }
Dim3 GridSize() { return g_block.grid; }
void* SharedMemory() { return g_block.shared.get(); }

namespace {
// The unit, as this block has left it, and what its warps have read.
Unit& UnitAt(int64_t i, Reads** reads) {
  Block& b = g_block;
  Unit& unit = b.units[i];
  *reads = b.reads.data() + i * static_cast<int64_t>(b.warps.size());
  if (unit.block != b.number) {
    unit = {b.number, {}};
    std::fill_n(*reads, b.warps.size(), Reads());
  }
  return unit;
}
}  // namespace

void NoteRead(const void* address, int bytes) {
  const Thread& thread = *g_block.current;
  const Touch now = {static_cast<int16_t>(thread.index), thread.clock[thread.index]};
  const int64_t first = UnitOf(address, bytes);
  for (int64_t i = first; i < first + (bytes + 1) / 2; ++i) {
    Reads* reads;
    const Unit& unit = UnitAt(i, &reads);
    if (Unordered(unit.written, thread)) Race("read after write", address, unit.written.thread);
    Reads& own = reads[thread.index / 32];
    if (own.last.thread != now.thread) own.other = own.last;
    own.last = now;
  }
}

void NoteWrite(void* address, int bytes) {
  const Thread& thread = *g_block.current;
  const int64_t first = UnitOf(address, bytes);
  for (int64_t i = first; i < first + (bytes + 1) / 2; ++i) {
    Reads* reads;
    Unit& unit = UnitAt(i, &reads);
    if (Unordered(unit.written, thread)) Race("write after write", address, unit.written.thread);
    for (size_t w = 0; w < g_block.warps.size(); ++w) {
      for (const Touch& read : {reads[w].last, reads[w].other})
        if (Unordered(read, thread)) Race("write after read", address, read.thread);
    }
    unit.written = {static_cast<int16_t>(thread.index), thread.clock[thread.index]};
  }
}

void CopyAsync(void* target, const void* source, int bytes) {
  NoteWrite(target, bytes);
  std::memset(target, 0xFF, bytes);
  if (source && reinterpret_cast<uintptr_t>(source) % bytes != 0) Fail("misaligned source of cp.async");
  g_block.current->open_group.push_back({target, source, bytes});
}

void CommitCopies() {
  Thread& thread = *g_block.current;
  thread.groups.push_back(std::move(thread.open_group));
  thread.open_group.clear();
}

void WaitCopies(int groups_left) {
  Thread& thread = *g_block.current;
  while (static_cast<int>(thread.groups.size()) > groups_left) {
    Complete(thread.groups.front());
    thread.groups.erase(thread.groups.begin());
  }
}

int BlockBarrier(const char* kind, int value) {
  Block& b = g_block;
  Thread* self = b.current;
  if (b.barrier_arrived > 0 && std::strcmp(b.barrier_kind, kind) != 0)
    Fail("divergent barrier: " + std::string(kind) + " while others wait at " + b.barrier_kind);
  if (b.barrier_arrived == 0) b.barrier_kind = kind, b.barrier_count = 0;
  b.barrier_count += value != 0 ? 1 : 0;
  if (++b.barrier_arrived < b.num_threads) {
    self->waits_at = kind;
    SwitchAway();
    return self->barrier_result;
  }
  b.barrier_arrived = 0;
  Meet(0, b.num_threads);
  for (int i = 0; i < b.num_threads; ++i) {
    Thread* thread = b.threads[i].get();
    thread->barrier_result = b.barrier_count;
    thread->waits_at = nullptr;
    if (thread == self) continue;
    if (reversed_threads) {
      b.ready.push_front(thread);
    } else {
      b.ready.push_back(thread);
    }
  }
  return self->barrier_result;
}

namespace {
Phases& PhasesAt(const void* barrier) {
  const auto found = g_block.phases.find(barrier);
  if (found == g_block.phases.end()) Fail("a barrier of phases that nobody has made");
  return found->second;
}
}  // namespace

void InitPhases(const void* barrier, int count) {
  UnitOf(barrier, 8);
  g_block.phases[barrier].count = count;
}

void ArriveAtPhase(const void* barrier) {
  Phases& phases = PhasesAt(barrier);
  Thread& self = *g_block.current;
  Learn(phases.told, self.clock);
  ++self.clock[self.index];
  if (++phases.arrived < phases.count) return;
  phases.arrived = 0;
  phases.known = std::exchange(phases.told, {});
  ++phases.ended;
  for (Thread* thread : phases.waiting) {
    thread->waits_at = nullptr;
    g_block.ready.push_back(thread);
  }
  phases.waiting.clear();
}

void WaitForPhase(const void* barrier, uint32_t parity) {
  Phases& phases = PhasesAt(barrier);
  while (phases.ended % 2 == parity) {
    phases.waiting.push_back(g_block.current);
    g_block.current->waits_at = "mbarrier.try_wait";
    SwitchAway();
  }
  Learn(g_block.current->clock, phases.known);
}

void WarpCollective(const char* kind, void* arguments, void (*operation)(void** lanes), bool ordering) {
  Block& b = g_block;
  Thread* self = b.current;
  Warp& warp = b.warps[self->index / 32];
  if (warp.arrived > 0 && std::strcmp(warp.kind, kind) != 0)
    Fail("divergent warp: " + std::string(kind) + " while other lanes wait at " + warp.kind);
  warp.kind = kind;
  warp.arguments[self->index % 32] = arguments;
  if (++warp.arrived < 32) {
    self->waits_at = kind;
    SwitchAway();
    return;
  }
  warp.arrived = 0;
  if (operation) operation(warp.arguments);
  const int first = self->index / 32 * 32;
  if (ordering) Meet(first, 32);
  for (int i = first; i < first + 32; ++i) {
    Thread* thread = b.threads[i].get();
    thread->waits_at = nullptr;
    if (thread != self) b.ready.push_back(thread);
  }
}

void NoteOfGroup(int what) {
  const int thread = g_block.current->index;
  if (thread % 32 == 0) g_block.warps[thread / 32].of_group.push_back(static_cast<int8_t>(what));
}

void BeginProduct(std::function<void()> product) { g_block.current->open_products.push_back(std::move(product)); }
void CommitProducts() {
  Thread& thread = *g_block.current;
  if (!thread.open_products.empty()) thread.products.push_back(std::move(thread.open_products));
  thread.open_products.clear();
}
void WaitProducts(int groups_left) {
  Thread& thread = *g_block.current;
  while (static_cast<int>(thread.products.size()) > groups_left) {
    const std::vector<std::function<void()>> group = std::move(thread.products.front());
    thread.products.pop_front();
    for (const auto& product : group) product();
  }
}

void RequireFullMask(unsigned mask) {
  if (mask != ~0U) Fail("a collective of part of a warp");
}

namespace {
struct VoteSlot {
  unsigned value, result;
};
}  // namespace

unsigned Ballot(const char* kind, bool value) {
  VoteSlot slot{value, 0};
  WarpCollective(
      kind, &slot,
      [](void** lanes) {
        unsigned ballot = 0;
        for (int i = 0; i < 32; ++i) ballot |= static_cast<VoteSlot*>(lanes[i])->value << i;
        for (int i = 0; i < 32; ++i) static_cast<VoteSlot*>(lanes[i])->result = ballot;
      },
      false);
  return slot.result;
}

unsigned Reduce(unsigned value, bool all) {
  VoteSlot slot{all ? ~value : value, 0};
  WarpCollective(
      "redux", &slot,
      [](void** lanes) {
        // Of the complements, what any has is what not all have.
        unsigned any = 0;
        for (int i = 0; i < 32; ++i) any |= static_cast<VoteSlot*>(lanes[i])->value;
        for (int i = 0; i < 32; ++i) static_cast<VoteSlot*>(lanes[i])->result = any;
      },
      false);
  return all ? ~slot.result : slot.result;
}

unsigned MatchAny(unsigned value) {
  VoteSlot slot{value, 0};
  WarpCollective(
      "match.any", &slot,
      [](void** lanes) {
        for (int i = 0; i < 32; ++i) {
          for (int j = 0; j < 32; ++j) {
            const bool same = static_cast<VoteSlot*>(lanes[i])->value == static_cast<VoteSlot*>(lanes[j])->value;
            static_cast<VoteSlot*>(lanes[i])->result |= static_cast<unsigned>(same) << j;
          }
        }
      },
      false);
  return slot.result;
}

}  // namespace earshot::emulation
