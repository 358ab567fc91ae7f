// Tiles of bf16, and of floats that are split into three of them; sixteen lanes of all that the avx512bf16 level has.
#define EARSHOT_KERNEL_LANES 16
#define EARSHOT_KERNEL_NAMESPACE attention_amx
#include "src/attention/attention_kernel_tile_backward.h"
#include "src/attention/attention_kernel_tile_forward.h"

namespace earshot::EARSHOT_KERNEL_NAMESPACE {

void Forward(const AttentionArguments& arguments, const KeyUnitView& unit, int kv_head, AttentionScratch& scratch) {
  const TileScope tiles;
  if (arguments.type == KernelType::kFloat) {
    ForwardPass<TileEngine<Cell::kSplit>>(arguments, unit, kv_head, scratch).Run();
  } else {
    ForwardPass<TileEngine<Cell::kShorts>>(arguments, unit, kv_head, scratch).Run();
  }
}

void Backward(const AttentionArguments& arguments, const AttentionGradients& gradients, const KeyUnitView& unit,
              int kv_head, AttentionScratch& scratch) {
  const TileScope tiles;
  if (arguments.type == KernelType::kFloat) {
    TileBackwardPass<Cell::kSplit>(arguments, gradients, unit, kv_head, scratch).Run();
  } else {
    TileBackwardPass<Cell::kShorts>(arguments, gradients, unit, kv_head, scratch).Run();
  }
}

}  // namespace earshot::EARSHOT_KERNEL_NAMESPACE
