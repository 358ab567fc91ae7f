// What attention_kernel.cc asks of the files that are compiled for one SIMD level each.
//
// Those are compiled with instructions that not every CPU has. Whatever inline function or template they share with
// other files could end up in the program in their form, so they see plain pointers only, keep all of their own in a
// namespace for each level, and use nothing of the standard library that is not a macro or a type.
#pragma once

#include <cstdint>

#include "src/attention/attention_kernel.h"

namespace earshot {

// A KeyUnit without its vector.
struct KeyUnitView {
  int64_t first_query = 0;
  int num_queries = 0;
  const KeyEntry* keys = nullptr;
  int64_t num_keys = 0;
};

#define EARSHOT_DECLARE_ATTENTION_KERNEL(name)                                                                        \
  namespace name {                                                                                                    \
  void Forward(const AttentionArguments& arguments, const KeyUnitView& unit, int kv_head, AttentionScratch& scratch); \
  void Backward(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnitView& unit,    \
                int kv_head, AttentionScratch& scratch);                                                              \
  }
// Float, and bf16 by way of float.
EARSHOT_DECLARE_ATTENTION_KERNEL(attention_baseline)
EARSHOT_DECLARE_ATTENTION_KERNEL(attention_avx2)
EARSHOT_DECLARE_ATTENTION_KERNEL(attention_avx512)
// bf16 alone.
EARSHOT_DECLARE_ATTENTION_KERNEL(attention_avx512bf16)
// Float, and bf16.
EARSHOT_DECLARE_ATTENTION_KERNEL(attention_amx)
#undef EARSHOT_DECLARE_ATTENTION_KERNEL

}  // namespace earshot
