#include "src/attention/hybrid_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "src/base/error.h"
#include "tests/attention/random_pattern.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

// The formula of the header, one query at a time, in double: (N, H, Tq, d). The operator itself computes scores and
// softmax in float, so that finite differences of it would measure rounding; this form has gradients in double.
Tensor Definition(const AttentionInputs& in, const AttentionPlan& plan) {
  const PlanOptions& o = plan.options;
  const Tensor q = in.q.to(torch::kDouble), k = in.k.to(torch::kDouble), v = in.v.to(torch::kDouble);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  std::vector<Tensor> utterances;
  for (int64_t n = 0; n < q.size(0); ++n) {
    std::vector<Tensor> frames;
    for (int64_t i = 0; i < o.num_queries; ++i) {
      std::vector<int64_t> seen;
      for (int64_t j = 0; j < o.num_keys; ++j) {
        const int64_t position = o.key_positions.empty() ? j : o.key_positions[static_cast<size_t>(j)];
        const bool valid = !in.lens.defined() || j < in.lens[n].item<int64_t>();
        if (valid && plan.pattern.MaySee(o.first_query + i, position)) seen.push_back(j);
      }
      const Tensor index = torch::tensor(seen, torch::kInt64);
      Tensor scores = torch::einsum("hd,hkd->hk", {q[n].select(1, i), k[n].index_select(1, index)}) * scale;
      if (in.log_gate.defined()) scores = scores + in.log_gate[n].to(torch::kDouble).index_select(0, index);
      Tensor values = v[n].index_select(1, index);
      if (in.memory_k.defined()) {
        const int64_t chunk = plan.pattern.memory()->chunk;
        const int64_t b = (o.first_query + i) / chunk - o.first_query / chunk;
        const Tensor keys = in.memory_k[n].to(torch::kDouble).select(1, b);  // (H, M, d)
        const Tensor query = in.memory_q[n].to(torch::kDouble).select(1, i);
        scores = torch::cat({scores, torch::einsum("hd,hmd->hm", {query, keys}) * scale}, 1);
        values = torch::cat({values, in.memory_v[n].to(torch::kDouble).select(1, b)}, 1);
      }
      frames.push_back(torch::einsum("hk,hkd->hd", {torch::softmax(scores, 1), values}));
    }
    utterances.push_back(torch::stack(frames, 1));
  }
  return torch::stack(utterances, 0);
}

struct Shape {
  int64_t n = 2, heads = 2, dim = 4;
};

AttentionInputs RandomInputs(const AttentionPlan& plan, const Shape& s, bool gate, torch::ScalarType type) {
  const PlanOptions& o = plan.options;
  const auto options = torch::TensorOptions().dtype(type);
  AttentionInputs in;
  in.q = torch::randn({s.n, s.heads, o.num_queries, s.dim}, options);
  in.k = torch::randn({s.n, s.heads, o.num_keys, s.dim}, options);
  in.v = torch::randn({s.n, s.heads, o.num_keys, s.dim}, options);
  if (gate) in.log_gate = -3 * torch::rand({s.n, o.num_keys}, options);
  if (const PatternTerm* memory = plan.pattern.memory()) {
    const int64_t chunks = (o.first_query + o.num_queries - 1) / memory->chunk - o.first_query / memory->chunk + 1;
    in.memory_q = torch::randn({s.n, s.heads, o.num_queries, s.dim}, options);
    in.memory_k = torch::randn({s.n, s.heads, chunks, memory->slots, s.dim}, options);
    in.memory_v = torch::randn({s.n, s.heads, chunks, memory->slots, s.dim}, options);
  }
  return in;
}

std::string Describe(const AttentionPlan& plan) {
  return fmt::format("{}, {} queries from {}, {} keys, block {}", plan.pattern.ToString(), plan.options.num_queries,
                     plan.options.first_query, plan.options.num_keys, plan.options.block);
}

class HybridAttentionTest : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(1); }
};

// Zero queries and keys: all scores are alike, so the output is the mean of what is seen, weighed by the gate.
TEST_F(HybridAttentionTest, MeansByHand) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("sliding(left=1,right=0)"), {.num_queries = 4, .num_keys = 4, .block = 2});
  AttentionInputs in{.q = torch::zeros({1, 1, 4, 2}), .k = torch::zeros({1, 1, 4, 2})};
  in.v = torch::tensor({1.0F, 2.0F, 4.0F, 8.0F}).view({1, 1, 4, 1}).repeat({1, 1, 1, 2});
  EXPECT_TRUE(
      TensorsMatch(HybridAttention(in, plan).select(3, 0).flatten(), torch::tensor({1.0F, 1.5F, 3.0F, 6.0F}), 1e-6));
  // Key 1 counts a third: (1 + 2 / 3) / (4 / 3), (2 / 3 + 4) / (4 / 3).
  in.log_gate = torch::tensor({1.0F, 1.0F / 3, 1.0F, 1.0F}).log().unsqueeze(0);
  EXPECT_TRUE(
      TensorsMatch(HybridAttention(in, plan).select(3, 1).flatten(), torch::tensor({1.0F, 1.25F, 3.5F, 6.0F}), 1e-6));
}

TEST_F(HybridAttentionTest, BothFormsFollowTheDefinition) {
  const torch::NoGradGuard no_grad;
  const int64_t lengths[] = {1, 2, 3, 7, 13, 16, 31};
  const int64_t blocks[] = {0, 1, 3, 4, 8};
  Random random(4);
  for (int draw = 0; draw < 60; ++draw) {
    const Pattern pattern = draw == 0 ? Pattern() : RandomPattern(random);
    const int64_t frames = lengths[random.Index(7)];
    const AttentionPlan plan =
        MakeAttentionPlan(pattern, {.num_queries = frames, .num_keys = frames, .block = blocks[random.Index(5)]});
    AttentionInputs in = RandomInputs(plan, {}, random.Chance(0.5), torch::kFloat);
    if (random.Chance(0.5)) in.lens = torch::tensor({frames, 1 + random.Index(frames)}, torch::kInt64);
    const Tensor expected = Definition(in, plan);
    EXPECT_TRUE(TensorsMatch(HybridAttentionReference(in, plan), expected, 1e-5)) << Describe(plan);
    EXPECT_TRUE(TensorsMatch(HybridAttention(in, plan), expected, 1e-5)) << Describe(plan);
  }
}

// The chosen plan of long utterances has several blocks, that of short ones is dense; both are the reference.
TEST_F(HybridAttentionTest, ChosenPlansEqualTheReference) {
  const torch::NoGradGuard no_grad;
  for (const char* text : {"local(chunk=16,left=64)+strided(every=16,reach=512)", "sliding(left=20,right=3)", "full",
                           "full(causal=true)", "blockwise(block=24,offsets=-2;1)+memory(slots=4,chunk=16,lag=1)"}) {
    for (const int64_t frames : {127, 128, 129, 401}) {
      const Pattern pattern = Pattern::Parse(text);
      const AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = frames, .num_keys = frames});
      EXPECT_EQ(plan.dense, frames <= 128 || pattern.IsFull());
      AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat);
      in.lens = torch::tensor({frames - 5, frames}, torch::kInt64);
      EXPECT_TRUE(TensorsMatch(HybridAttention(in, plan), HybridAttentionReference(in, plan), 1e-5)) << Describe(plan);
    }
  }
}

// As in a stream: queries in the middle, keys of which some are forgotten.
TEST_F(HybridAttentionTest, KeysWithGaps) {
  const torch::NoGradGuard no_grad;
  Random random(5);
  for (int draw = 0; draw < 60; ++draw) {
    const Pattern pattern = RandomPattern(random);
    PlanOptions options{.first_query = 20 + random.Index(20), .num_queries = 1 + random.Index(12)};
    for (int64_t k = 0; k < options.first_query + options.num_queries + 5; ++k) {
      if (random.Chance(0.6)) options.key_positions.push_back(k);
    }
    options.num_keys = static_cast<int64_t>(options.key_positions.size());
    options.block = random.Index(5);
    const AttentionPlan plan = MakeAttentionPlan(pattern, options);
    const AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat);
    const Tensor expected = Definition(in, plan);
    EXPECT_TRUE(TensorsMatch(HybridAttention(in, plan), expected, 1e-5)) << Describe(plan);
    EXPECT_TRUE(TensorsMatch(HybridAttentionReference(in, plan), expected, 1e-5)) << Describe(plan);
  }
}

TEST_F(HybridAttentionTest, GradientsFollowTheDefinition) {
  Random random(6);
  for (int draw = 0; draw < 16; ++draw) {
    const Pattern pattern = RandomPattern(random);
    const int64_t frames = 1 + random.Index(14);
    const AttentionPlan plan =
        MakeAttentionPlan(pattern, {.num_queries = frames, .num_keys = frames, .block = draw % 2 == 0 ? 3 : 0});
    AttentionInputs in = RandomInputs(plan, {}, true, torch::kDouble);
    in.lens = torch::tensor({frames, (frames + 1) / 2}, torch::kInt64);
    std::vector<Tensor> leaves = {in.q, in.k, in.v, in.log_gate};
    if (in.memory_k.defined()) leaves.insert(leaves.end(), {in.memory_q, in.memory_k, in.memory_v});
    for (Tensor& leaf : leaves) leaf.requires_grad_();
    const Tensor weights = torch::randn({2, 2, frames, 4}, torch::kDouble);
    const auto expected = torch::autograd::grad({(Definition(in, plan) * weights).sum()}, leaves);
    for (const auto& form : {HybridAttention, HybridAttentionReference}) {
      const auto actual = torch::autograd::grad({(form(in, plan) * weights).sum()}, leaves);
      for (size_t i = 0; i < leaves.size(); ++i)
        EXPECT_TRUE(TensorsMatch(actual[i], expected[i], 2e-5)) << "input " << i << ", " << Describe(plan);
    }
  }
}

TEST_F(HybridAttentionTest, RowsThatSeeNothingAreZeroAndHaveNoGradient) {
  const Pattern pattern = Pattern::Parse("sliding(left=1,right=0)");
  for (const int64_t block : {0, 2}) {
    // Queries 10 and 11 see nothing of what is there, 12 and 13 see key 12.
    const AttentionPlan plan = MakeAttentionPlan(
        pattern, {.first_query = 10, .num_queries = 4, .num_keys = 2, .key_positions = {3, 12}, .block = block});
    AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat);
    for (Tensor* t : {&in.q, &in.k, &in.v}) t->requires_grad_();
    const Tensor out = HybridAttention(in, plan);
    EXPECT_TRUE(torch::equal(out.narrow(2, 0, 2), torch::zeros({2, 2, 2, 4})));
    EXPECT_TRUE(TensorsMatch(out.select(2, 2), in.v.select(2, 1), 1e-6));
    const auto gradients = torch::autograd::grad({out.square().sum()}, {in.q, in.k, in.v});
    EXPECT_TRUE(torch::equal(gradients[0], torch::zeros_like(in.q)));  // one key alone always has the weight 1
    EXPECT_TRUE(TensorsMatch(gradients[2].select(2, 0), torch::zeros({2, 2, 4}), 0));
  }
  // An utterance of no frames in a batch, and no queries at all.
  const AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = 4, .num_keys = 4, .block = 2});
  AttentionInputs in = RandomInputs(plan, {}, false, torch::kFloat);
  in.lens = torch::tensor({4, 0}, torch::kInt64);
  EXPECT_TRUE(torch::equal(HybridAttention(in, plan)[1], torch::zeros({2, 4, 4})));
  EXPECT_TRUE(torch::equal(HybridAttentionReference(in, plan)[1], torch::zeros({2, 4, 4})));
  const AttentionPlan none = MakeAttentionPlan(pattern, {.num_queries = 0, .num_keys = 0});
  EXPECT_EQ(HybridAttention(RandomInputs(none, {}, false, torch::kFloat), none).sizes().vec(),
            (std::vector<int64_t>{2, 2, 0, 4}));
}

TEST_F(HybridAttentionTest, ExtremeScoresStayFinite) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("sliding(left=3,right=3)"), {.num_queries = 9, .num_keys = 9, .block = 4});
  for (const double size : {1e4, 1e10}) {
    AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat);
    in.q = in.q * size;
    in.k = (in.k * size).requires_grad_();
    in.log_gate = in.log_gate * 100;
    const Tensor out = HybridAttention(in, plan);
    EXPECT_LE(out.abs().max().item<double>(), in.v.abs().max().item<double>() * 1.0001);
    EXPECT_TRUE(TensorsMatch(out, HybridAttentionReference(in, plan), 1e-5));
    EXPECT_TRUE(torch::autograd::grad({out.sum()}, {in.k})[0].isfinite().all().item<bool>());
  }
}

TEST_F(HybridAttentionTest, BFloat16InAndOut) {
  const AttentionPlan plan = MakeAttentionPlan(Pattern::Parse("local(chunk=4,left=4)+memory(slots=2,chunk=4)"),
                                               {.num_queries = 21, .num_keys = 21, .block = 8});
  const AttentionInputs in = RandomInputs(plan, {}, false, torch::kBFloat16);
  const Tensor out = HybridAttention(in, plan);
  EXPECT_EQ(out.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(TensorsMatch(out, Definition(in, plan), 0.03));
}

TEST_F(HybridAttentionTest, WeightsAreThoseOfTheOutput) {
  const Pattern pattern = Pattern::Parse("local(chunk=4,left=4)");
  const AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = 11, .num_keys = 11});
  AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat);
  in.lens = torch::tensor({11, 9}, torch::kInt64);
  const Tensor weights = AttentionWeights(in, plan);
  EXPECT_TRUE(TensorsMatch(weights.sum(3), torch::ones({2, 2, 11}), 1e-6));
  EXPECT_TRUE(TensorsMatch(torch::matmul(weights, in.v), HybridAttention(in, plan), 1e-5));
  for (int64_t q = 0; q < 11; ++q) {
    for (int64_t k = 0; k < 11; ++k) {
      if (pattern.MaySee(q, k)) continue;
      EXPECT_EQ(weights.select(3, k).select(2, q).abs().max().item<double>(), 0) << q << " sees " << k;
    }
  }
}

TEST_F(HybridAttentionTest, PlanOfAnotherLengthIsRefused) {
  const AttentionPlan plan = MakeAttentionPlan(Pattern(), {.num_queries = 4, .num_keys = 4});
  AttentionInputs in = RandomInputs(plan, {}, false, torch::kFloat);
  in.k = torch::zeros({2, 2, 5, 4});
  EXPECT_THROW(HybridAttention(in, plan), LogicError);
  EXPECT_THROW(MakeAttentionPlan(Pattern(), {.num_queries = 4, .num_keys = 4, .key_positions = {1, 2}}), LogicError);
}

}  // namespace
}  // namespace earshot
