#include "src/attention/attention_kernel.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/attention/attention_kernel_level.h"
#include "src/base/error.h"

namespace earshot {
namespace {

constexpr std::align_val_t kAlignment{64};

KeyUnitView View(const KeyUnit& unit) {
  return {.first_query = unit.first_query,
          .num_queries = unit.num_queries,
          .keys = unit.keys.data(),
          .num_keys = static_cast<int64_t>(unit.keys.size())};
}

void Check(const AttentionArguments& arguments, const KeyUnit& unit, int kv_head) {
  EARSHOT_CHECK(arguments.head_dim >= 1 && arguments.head_dim <= kMaxHeadDim, "attention: a head of {} channels",
                arguments.head_dim);
  EARSHOT_CHECK(arguments.kv_heads >= 1 && arguments.heads % arguments.kv_heads == 0,
                "attention: {} heads over {} of keys", arguments.heads, arguments.kv_heads);
  EARSHOT_CHECK(kv_head >= 0 && kv_head < arguments.kv_heads, "attention: key head {} of {}", kv_head,
                arguments.kv_heads);
  EARSHOT_CHECK(unit.num_queries >= 1 && unit.num_queries <= kUnitQueries, "attention: a unit of {} queries",
                unit.num_queries);
}

// Pairs of bf16 are all that its level adds.
SimdLevel LevelFor(KernelType type, SimdLevel level) {
  return type == KernelType::kFloat && level == SimdLevel::kAvx512Bf16 ? SimdLevel::kAvx512 : level;
}

}  // namespace

AttentionScratch::AttentionScratch() = default;
AttentionScratch::~AttentionScratch() { ::operator delete(data_, kAlignment); }
AttentionScratch::AttentionScratch(AttentionScratch&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
AttentionScratch& AttentionScratch::operator=(AttentionScratch&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void* AttentionScratch::Reserve(int64_t bytes) {
  if (bytes > size_) {
    ::operator delete(std::exchange(data_, nullptr), kAlignment);
    size_ = 0;
    data_ = ::operator new(static_cast<size_t>(bytes), kAlignment);
    size_ = bytes;
  }
  return data_;
}

void AttentionForward(SimdLevel level, const AttentionArguments& arguments, const KeyUnit& unit, int kv_head,
                      AttentionScratch& scratch) {
  Check(arguments, unit, kv_head);
  switch (LevelFor(arguments.type, level)) {
    case SimdLevel::kBaseline: return attention_baseline::Forward(arguments, View(unit), kv_head, scratch);
#if defined(EARSHOT_X86_KERNELS)
    case SimdLevel::kAvx2: return attention_avx2::Forward(arguments, View(unit), kv_head, scratch);
    case SimdLevel::kAvx512: return attention_avx512::Forward(arguments, View(unit), kv_head, scratch);
    case SimdLevel::kAvx512Bf16: return attention_avx512bf16::Forward(arguments, View(unit), kv_head, scratch);
    case SimdLevel::kAmx: return attention_amx::Forward(arguments, View(unit), kv_head, scratch);
#endif
    default: EARSHOT_CHECK(false, "no attention kernel for {}", Name(level));
  }
}

void AttentionBackward(SimdLevel level, const AttentionArguments& arguments, const AttentionGradients& gradients,
                       const KeyUnit& unit, int kv_head, AttentionScratch& scratch) {
  Check(arguments, unit, kv_head);
  EARSHOT_CHECK(arguments.lse != nullptr, "attention: gradients need the lse of the forward pass");
  switch (LevelFor(arguments.type, level)) {
    case SimdLevel::kBaseline: return attention_baseline::Backward(arguments, gradients, View(unit), kv_head, scratch);
#if defined(EARSHOT_X86_KERNELS)
    case SimdLevel::kAvx2: return attention_avx2::Backward(arguments, gradients, View(unit), kv_head, scratch);
    case SimdLevel::kAvx512: return attention_avx512::Backward(arguments, gradients, View(unit), kv_head, scratch);
    case SimdLevel::kAvx512Bf16:
      return attention_avx512bf16::Backward(arguments, gradients, View(unit), kv_head, scratch);
    case SimdLevel::kAmx: return attention_amx::Backward(arguments, gradients, View(unit), kv_head, scratch);
#endif
    default: EARSHOT_CHECK(false, "no attention kernel for {}", Name(level));
  }
}

void AttentionForward(const AttentionArguments& arguments, const KeyUnit& unit, int kv_head,
                      AttentionScratch& scratch) {
  AttentionForward(ChooseSimdLevel(), arguments, unit, kv_head, scratch);
}

void AttentionBackward(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnit& unit,
                       int kv_head, AttentionScratch& scratch) {
  AttentionBackward(ChooseSimdLevel(), arguments, gradients, unit, kv_head, scratch);
}

}  // namespace earshot
