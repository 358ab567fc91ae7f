// Sixteen lanes and products of pairs of bf16.
#define EARSHOT_KERNEL_LANES 16
#define EARSHOT_KERNEL_NAMESPACE attention_avx512bf16
#include "src/attention/attention_kernel_tile_backward.h"
#include "src/attention/attention_kernel_vector_forward.h"
#include "src/attention/attention_kernel_vector_tiles.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

void Forward(const AttentionArguments& arguments, const KeyUnitView& unit, int kv_head, AttentionScratch& scratch) {
  ForwardPass<VectorEngine<Cell::kShorts>>(arguments, unit, kv_head, scratch).Run();
}

void Backward(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnitView& unit,
              int kv_head, AttentionScratch& scratch) {
  TileBackwardPass<Cell::kShorts>(arguments, gradients, unit, kv_head, scratch).Run();
}

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
