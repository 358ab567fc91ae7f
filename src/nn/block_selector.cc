#include "src/nn/block_selector.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/attention/masked_softmax.h"

namespace earshot {

using torch::Tensor;

namespace {

// Width of the summaries: a choice needs less than attention itself.
constexpr int64_t kSummaryDim = 32;
// Query blocks scored at a time, so that a bounded reach costs no square of the length.
constexpr int64_t kScored = 256;
constexpr double kLeastWeight = 1e-20;

}  // namespace

BlockSelector::BlockSelector(const PatternTerm& term, int64_t dim) : term_(term) {
  const double size = 1.0 / std::sqrt(static_cast<double>(dim));
  query_ = register_parameter("query", torch::randn({kSummaryDim, dim}) * size);
  // Of the same kind at first: blocks look for what is like them.
  key_ = register_parameter("key", query_.detach().clone() + torch::randn({kSummaryDim, dim}) * (0.1 * size));
}

BlockMeans BlockSelector::Means(const Tensor& x, const Tensor& weight, int64_t first) const {
  const int64_t n = x.size(0), dim = x.size(2), size = term_.chunk;
  const int64_t blocks = (x.size(1) + size - 1) / size, missing = blocks * size - x.size(1);
  const Tensor w = torch::constant_pad_nd(weight, {0, missing}).view({n, blocks, size});
  const Tensor share = w / w.sum(2, true).clamp_min(kLeastWeight);
  const Tensor frames = torch::constant_pad_nd(x.to(torch::kFloat), {0, 0, 0, missing}).view({n, blocks, size, dim});
  return {.mean = torch::matmul(share.unsqueeze(2), frames).squeeze(2), .first = first};
}

SelectedBlocks BlockSelector::Select(const BlockMeans& queries, const BlockMeans& keys,
                                     const Tensor& key_blocks) const {
  const int64_t n = queries.mean.size(0), num_queries = queries.mean.size(1), num_keys = keys.mean.size(1);
  const int64_t wanted = term_.blocks;
  const Tensor q = torch::matmul(queries.mean, query_.t().to(torch::kFloat));  // (N, B, S)
  const Tensor k = torch::matmul(keys.mean, key_.t().to(torch::kFloat));
  const Tensor there = key_blocks.defined() ? key_blocks : torch::full({n}, num_keys, torch::kInt64);
  const auto integers = torch::TensorOptions().dtype(torch::kInt64).device(q.device());
  std::vector<Tensor> blocks, scores;
  for (int64_t begin = 0; begin < num_queries; begin += kScored) {
    const int64_t end = std::min(begin + kScored, num_queries);
    const KeyRange low = term_.Candidates(queries.first + begin), high = term_.Candidates(queries.first + end - 1);
    const int64_t from = std::clamp<int64_t>(low.first - keys.first, 0, num_keys);
    const int64_t to = std::clamp<int64_t>(high.last - keys.first + 1, from, num_keys);
    Tensor s = torch::matmul(q.slice(1, begin, end), k.slice(1, from, to).transpose(1, 2)) *
               (1.0 / std::sqrt(static_cast<double>(kSummaryDim)));  // (N, b, c)
    // Candidates by position; the block itself is seen anyhow, and blocks without frames are none.
    const Tensor b = torch::arange(queries.first + begin, queries.first + end, integers).unsqueeze(1);
    const Tensor c = torch::arange(keys.first + from, keys.first + to, integers).unsqueeze(0);
    Tensor allowed = c != b;
    if (term_.reach >= 0) allowed = allowed & (c >= b - term_.reach);
    if (term_.lookahead >= 0) allowed = allowed & (c <= b + term_.lookahead);
    allowed = allowed.unsqueeze(0) & (c - keys.first < there.to(q.device()).unsqueeze(1)).unsqueeze(1);
    const Tensor hidden = s.masked_fill(~allowed, kNever);
    const int64_t taken = std::min(wanted, to - from);
    const Tensor best = std::get<1>(hidden.detach().topk(taken, 2));  // (N, b, taken)
    const Tensor score = hidden.gather(2, best), none = score <= kNever / 2;
    const Tensor bias = torch::log_sigmoid(score.masked_fill(none, 0)).masked_fill(none, 0);
    const Tensor block = (best + (keys.first + from)).masked_fill(none, -1);
    blocks.push_back(torch::constant_pad_nd(block, {0, wanted - taken}, -1));
    scores.push_back(torch::constant_pad_nd(bias, {0, wanted - taken}));
  }
  if (blocks.empty()) return {.blocks = torch::zeros({n, 0, wanted}, integers), .score = torch::zeros({n, 0, wanted})};
  return {.blocks = torch::cat(blocks, 1).contiguous(), .score = torch::cat(scores, 1)};
}

}  // namespace earshot
