// What the files of the levels of floats define; see attention_kernel_lanes.h.
#pragma once

#include "src/attention/attention_kernel_backward.h"
#include "src/attention/attention_kernel_vector_forward.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

// Each file that includes this has them in a namespace of its own.
// NOLINTBEGIN(misc-definitions-in-headers)
void Forward(const AttentionArguments& arguments, const KeyUnitView& unit, int kv_head, AttentionScratch& scratch) {
  ForwardPass<VectorEngine<Cell::kFloat>>(arguments, unit, kv_head, scratch).Run();
}

void Backward(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnitView& unit,
              int kv_head, AttentionScratch& scratch) {
  BackwardPass(arguments, gradients, unit, kv_head, scratch).Run();
}
// NOLINTEND(misc-definitions-in-headers)

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
