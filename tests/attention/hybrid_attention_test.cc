#include "src/attention/hybrid_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>

#include "src/base/error.h"
#include "tests/attention/random_pattern.h"
#include "tests/attention/random_selection.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

// The formula of the header, one query at a time, in double: (N, H, Tq, d).
Tensor Definition(const AttentionInputs& in, const AttentionPlan& plan) {
  const Tensor q = in.q.to(torch::kDouble), k = in.k.to(torch::kDouble), v = in.v.to(torch::kDouble);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  const int64_t group = q.size(1) / k.size(1);
  std::vector<Tensor> utterances;
  for (int64_t n = 0; n < q.size(0); ++n) {
    const KeyLayout keys = plan.KeysOf(in, n);
    std::vector<Tensor> frames;
    for (int64_t i = 0; i < plan.queries.num_queries; ++i) {
      std::vector<int64_t> seen, scored;
      const int64_t own = keys.FrameAt(plan.queries.Position(i));
      const bool dropped = in.bias.defined() && own < keys.num_frames &&
                           keys.Position(own) == plan.queries.Position(i) &&
                           in.bias[n][own].item<double>() < plan.drop_below;
      for (int64_t row = 0; row < plan.num_rows && i < plan.ValidQueries(in, n) && !dropped; ++row) {
        const int64_t sees = SeesRow(plan.pattern, plan.queries, keys, plan.SelectionOf(in, n), i, row);
        if (sees < 0) continue;
        if (in.bias.defined() && in.bias[n][row].item<double>() < plan.drop_below) continue;
        seen.push_back(row);
        scored.push_back(sees);
      }
      const Tensor index = torch::tensor(seen, torch::kInt64);
      const Tensor query = q[n].select(1, i);  // (H, d)
      Tensor scores =
          torch::einsum("hd,hkd->hk", {query, k[n].index_select(1, index).repeat_interleave(group, 0)}) * scale;
      if (in.bias.defined()) scores = scores + in.bias[n].to(torch::kDouble).index_select(0, index);
      if (in.selection_score.defined()) {
        const Tensor extended =
            torch::cat({torch::zeros({1}, torch::kDouble), in.selection_score[n].to(torch::kDouble).flatten()});
        scores = scores + extended.index_select(0, torch::tensor(scored, torch::kInt64));
      }
      const Tensor values = v[n].index_select(1, index).repeat_interleave(group, 0);
      frames.push_back(torch::einsum("hk,hkd->hd", {torch::softmax(scores, 1), values}));
    }
    utterances.push_back(torch::stack(frames, 1));
  }
  return torch::stack(utterances, 0);
}

struct Shape {
  int64_t n = 2, heads = 2, kv_heads = 2, dim = 4;
};

AttentionInputs RandomInputs(const AttentionPlan& plan, const Shape& s, bool bias, torch::ScalarType type,
                             Random& random) {
  const auto options = torch::TensorOptions().dtype(type);
  AttentionInputs in;
  in.q = torch::randn({s.n, s.heads, plan.queries.num_queries, s.dim}, options);
  in.k = torch::randn({s.n, s.kv_heads, plan.num_rows, s.dim}, options);
  in.v = torch::randn({s.n, s.kv_heads, plan.num_rows, s.dim}, options);
  const auto exact = type == torch::kDouble ? torch::kDouble : torch::kFloat;
  if (bias) in.bias = -3 * torch::rand({s.n, plan.num_rows}, exact);
  if (const PatternTerm* t = plan.pattern.learned(); t && plan.queries.num_queries > 0) {
    const int64_t first = plan.queries.Position(0) / t->chunk;
    const int64_t blocks = plan.queries.Position(plan.queries.num_queries - 1) / t->chunk - first + 1;
    std::vector<int64_t> all;
    for (int64_t n = 0; n < s.n; ++n) {
      const auto one = RandomSelection(*t, first, blocks, first + blocks + 2, random);
      all.insert(all.end(), one.begin(), one.end());
    }
    in.selection = torch::tensor(all, torch::kInt64).view({s.n, blocks, t->blocks});
    in.selection_score = -2 * torch::rand({s.n, blocks, t->blocks}, exact);
  }
  return in;
}

std::string Describe(const AttentionPlan& plan) {
  return fmt::format("{}, {} queries from {}, {} rows", plan.pattern.ToString(), plan.queries.num_queries,
                     plan.queries.Position(0), plan.num_rows);
}

using Form = std::function<Tensor(const AttentionInputs&, const AttentionPlan&)>;

// Gathered in blocks of several sizes.
std::vector<std::pair<std::string, Form>> Forms() {
  std::vector<std::pair<std::string, Form>> forms = {{"reference", HybridAttentionReference},
                                                     {"kernels", HybridAttentionCpu}};
  for (const int64_t block : {0, 1, 3, 8}) {
    forms.emplace_back(fmt::format("gathered by {}", block),
                       [block](const AttentionInputs& in, const AttentionPlan& plan) {
                         return HybridAttentionGathered(in, plan, block);
                       });
  }
  return forms;
}

class HybridAttentionTest : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(1); }
  Random random_{4};
};

// Zero queries and keys: all scores are alike, so the output is the mean of what is seen, weighed by the gate.
TEST_F(HybridAttentionTest, MeansByHand) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("sliding(left=1,right=0)"), {.num_queries = 4, .num_keys = 4});
  AttentionInputs in{.q = torch::zeros({1, 1, 4, 2}), .k = torch::zeros({1, 1, 4, 2})};
  in.v = torch::tensor({1.0F, 2.0F, 4.0F, 8.0F}).view({1, 1, 4, 1}).repeat({1, 1, 1, 2});
  EXPECT_TRUE(
      TensorsMatch(HybridAttention(in, plan).select(3, 0).flatten(), torch::tensor({1.0F, 1.5F, 3.0F, 6.0F}), 1e-6));
  // Key 1 counts a third: (1 + 2 / 3) / (4 / 3), (2 / 3 + 4) / (4 / 3).
  in.bias = torch::tensor({1.0F, 1.0F / 3, 1.0F, 1.0F}).log().unsqueeze(0);
  EXPECT_TRUE(
      TensorsMatch(HybridAttention(in, plan).select(3, 1).flatten(), torch::tensor({1.0F, 1.25F, 3.5F, 6.0F}), 1e-6));
}

TEST_F(HybridAttentionTest, AllFormsFollowTheDefinition) {
  const torch::NoGradGuard no_grad;
  const int64_t lengths[] = {1, 2, 3, 7, 13, 16, 31};
  for (int draw = 0; draw < 60; ++draw) {
    const Pattern pattern = draw == 0 ? Pattern() : RandomPattern(random_);
    const int64_t frames = lengths[random_.Index(7)];
    const AttentionPlan plan = MakeAttentionPlan(
        pattern, {.num_queries = frames, .num_keys = frames, .drop_below = random_.Chance(0.5) ? -2.0 : -INFINITY});
    const Shape shape{.heads = draw % 2 == 0 ? 2 : 4, .dim = draw % 3 == 0 ? 36 : 4};
    AttentionInputs in = RandomInputs(plan, shape, random_.Chance(0.5), torch::kFloat, random_);
    if (random_.Chance(0.5)) in.lens = torch::tensor({frames, random_.Index(frames + 1)}, torch::kInt64);
    const Tensor expected = Definition(in, plan);
    for (const auto& [name, form] : Forms())
      EXPECT_TRUE(TensorsMatch(form(in, plan), expected, 1e-5)) << name << ", " << Describe(plan);
  }
}

TEST_F(HybridAttentionTest, LongUtterancesEqualTheReference) {
  const torch::NoGradGuard no_grad;
  for (const char* text :
       {"local(chunk=16,left=64)+strided(every=16,reach=512)", "sliding(left=20,right=3)", "full", "full(causal=true)",
        "blockwise(block=24,offsets=-2;1)+memory(slots=4,chunk=16,lag=1)", "learned(block=32,blocks=3,lookahead=-1)",
        "hierarchical(chunk=16,left=16,pool=4,levels=2,future=true)"}) {
    for (const int64_t frames : {511, 513, 1201}) {
      const AttentionPlan plan = MakeAttentionPlan(Pattern::Parse(text), {.num_queries = frames, .num_keys = frames});
      AttentionInputs in = RandomInputs(plan, {.dim = 16}, true, torch::kFloat, random_);
      in.lens = torch::tensor({frames - 5, frames}, torch::kInt64);
      const Tensor expected = HybridAttentionReference(in, plan);
      EXPECT_TRUE(TensorsMatch(HybridAttention(in, plan), expected, 1e-5)) << Describe(plan);
      EXPECT_TRUE(TensorsMatch(HybridAttentionGathered(in, plan), expected, 1e-5)) << Describe(plan);
    }
  }
}

// Runs of dropped frames, long and short, are left out by all forms alike.
TEST_F(HybridAttentionTest, DropsWhatTheGateTurnsDown) {
  const AttentionPlan plan = MakeAttentionPlan(Pattern::Parse("local(chunk=16,left=64)+strided(every=16,reach=512)"),
                                               {.num_queries = 1500, .num_keys = 1500, .drop_below = std::log(0.5)});
  AttentionInputs in = RandomInputs(plan, {.dim = 16}, false, torch::kFloat, random_);
  in.bias = torch::zeros({2, 1500});
  for (int64_t begin = 0; begin < 1500;) {
    const int64_t run = std::min<int64_t>(1500 - begin, 1 + random_.Index(random_.Chance(0.5) ? 8 : 200));
    if (random_.Chance(0.5)) in.bias.narrow(1, begin, run).fill_(-3);
    begin += run;
  }
  in.lens = torch::tensor({1500, 1402}, torch::kInt64);
  for (Tensor* t : {&in.q, &in.k, &in.v}) t->requires_grad_();
  const Tensor weights = torch::randn_like(in.q);
  const auto run = [&](const Form& form) {
    const Tensor out = form(in, plan);
    auto all = torch::autograd::grad({(out * weights).sum()}, {in.q, in.k, in.v});
    all.push_back(out);
    return all;
  };
  const auto expected = run(HybridAttentionReference);
  EXPECT_EQ(expected[3].select(2, 0).abs().max().item<double>() == 0, in.bias[0][0].item<double>() < -1);
  for (const auto& [name, form] : Forms()) {
    const auto actual = run(form);
    for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(TensorsMatch(actual[i], expected[i], 2e-5)) << name << " " << i;
  }
}

// As in a stream: queries in the middle, keys of which some are forgotten.
TEST_F(HybridAttentionTest, KeysWithGaps) {
  const torch::NoGradGuard no_grad;
  for (int draw = 0; draw < 60; ++draw) {
    const Pattern pattern = RandomPattern(random_);
    PlanOptions options{.first_query = 20 + random_.Index(20), .num_queries = 1 + random_.Index(12)};
    for (int64_t k = 0; k < options.first_query + options.num_queries + 5; ++k) {
      if (random_.Chance(0.6)) options.key_positions.push_back(k);
    }
    options.num_keys = static_cast<int64_t>(options.key_positions.size());
    const AttentionPlan plan = MakeAttentionPlan(pattern, options);
    const AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat, random_);
    const Tensor expected = Definition(in, plan);
    for (const auto& [name, form] : Forms())
      EXPECT_TRUE(TensorsMatch(form(in, plan), expected, 1e-5)) << name << ", " << Describe(plan);
  }
}

TEST_F(HybridAttentionTest, GradientsFollowTheDefinition) {
  for (int draw = 0; draw < 24; ++draw) {
    const Pattern pattern = RandomPattern(random_);
    const int64_t frames = 1 + random_.Index(14);
    const AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = frames, .num_keys = frames});
    AttentionInputs in = RandomInputs(plan, {.heads = 4}, true, torch::kDouble, random_);
    in.lens = torch::tensor({frames, (frames + 1) / 2}, torch::kInt64);
    const Tensor weights = torch::randn({2, 4, frames, 4}, torch::kDouble);
    const auto gradients = [&](const Form& form, torch::ScalarType type) {
      AttentionInputs leaf = in;
      std::vector<Tensor> leaves;
      for (Tensor* t : {&leaf.q, &leaf.k, &leaf.v, &leaf.bias, &leaf.selection_score}) {
        if (!t->defined()) continue;
        *t = t->detach().to(type).requires_grad_();
        leaves.push_back(*t);
      }
      return torch::autograd::grad({(form(leaf, plan) * weights).sum()}, leaves, {}, {}, false, true);
    };
    const auto expected = gradients(Definition, torch::kDouble);
    for (const auto& [name, form] : Forms()) {
      // The kernels compute in float, the others here in double.
      const bool kernels = name == "kernels";
      const auto actual = gradients(form, kernels ? torch::kFloat : torch::kDouble);
      for (size_t i = 0; i < expected.size(); ++i) {
        const Tensor e = expected[i].defined() ? expected[i] : torch::zeros_like(actual[i]);
        const Tensor a = actual[i].defined() ? actual[i] : torch::zeros_like(e);
        EXPECT_TRUE(TensorsMatch(a, e, kernels ? 2e-5 : 1e-10)) << name << ", input " << i << ", " << Describe(plan);
      }
    }
  }
}

TEST_F(HybridAttentionTest, GradientsOfLongUtterancesAreTheSameEveryTime) {
  const AttentionPlan plan = MakeAttentionPlan(Pattern::Parse("local(chunk=16,left=64)+strided(every=16,reach=512)"),
                                               {.num_queries = 1300, .num_keys = 1300});
  AttentionInputs in = RandomInputs(plan, {.dim = 36}, true, torch::kFloat, random_);
  std::vector<Tensor> leaves;
  for (Tensor* t : {&in.q, &in.k, &in.v, &in.bias}) leaves.push_back(t->requires_grad_());
  const Tensor weights = torch::randn_like(in.q);
  const auto run = [&](const Form& form) { return torch::autograd::grad({(form(in, plan) * weights).sum()}, leaves); };
  const auto first = run(HybridAttention), again = run(HybridAttention), expected = run(HybridAttentionReference);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_TRUE(torch::equal(first[i], again[i]));
    EXPECT_TRUE(TensorsMatch(first[i], expected[i], 5e-5)) << i;
  }
}

TEST_F(HybridAttentionTest, RowsThatSeeNothingAreZeroAndHaveNoGradient) {
  const Pattern pattern = Pattern::Parse("sliding(left=1,right=0)");
  for (const auto& [name, form] : Forms()) {
    // Queries 10 and 11 see nothing of what is there, 12 and 13 see key 12.
    const AttentionPlan plan =
        MakeAttentionPlan(pattern, {.first_query = 10, .num_queries = 4, .num_keys = 2, .key_positions = {3, 12}});
    AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat, random_);
    for (Tensor* t : {&in.q, &in.k, &in.v}) t->requires_grad_();
    const Tensor out = form(in, plan);
    EXPECT_TRUE(torch::equal(out.narrow(2, 0, 2), torch::zeros({2, 2, 2, 4}))) << name;
    EXPECT_TRUE(TensorsMatch(out.select(2, 2), in.v.select(2, 1), 1e-6)) << name;
    const auto gradients = torch::autograd::grad({out.square().sum()}, {in.q, in.k, in.v});
    // One key alone always has the weight 1.
    EXPECT_TRUE(TensorsMatch(gradients[0], torch::zeros_like(in.q), 1e-5)) << name;
    EXPECT_TRUE(TensorsMatch(gradients[2].select(2, 0), torch::zeros({2, 2, 4}), 0)) << name;
    // An utterance of no frames in a batch.
    const AttentionPlan whole = MakeAttentionPlan(pattern, {.num_queries = 4, .num_keys = 4});
    in = RandomInputs(whole, {}, false, torch::kFloat, random_);
    in.lens = torch::tensor({4, 0}, torch::kInt64);
    EXPECT_TRUE(torch::equal(form(in, whole)[1], torch::zeros({2, 4, 4}))) << name;
  }
  const AttentionPlan none = MakeAttentionPlan(pattern, {.num_queries = 0, .num_keys = 0});
  EXPECT_EQ(HybridAttention(RandomInputs(none, {}, false, torch::kFloat, random_), none).sizes().vec(),
            (std::vector<int64_t>{2, 2, 0, 4}));
}

TEST_F(HybridAttentionTest, ExtremeScoresStayFinite) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("sliding(left=3,right=3)"), {.num_queries = 9, .num_keys = 9});
  for (const double size : {1e4, 1e10}) {
    AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat, random_);
    in.q = in.q * size;
    in.k = (in.k * size).requires_grad_();
    in.bias = in.bias * 100;
    const Tensor out = HybridAttention(in, plan);
    EXPECT_LE(out.abs().max().item<double>(), in.v.abs().max().item<double>() * 1.0001);
    EXPECT_TRUE(TensorsMatch(out, HybridAttentionReference(in, plan), 1e-5));
    EXPECT_TRUE(torch::autograd::grad({out.sum()}, {in.k})[0].isfinite().all().item<bool>());
  }
}

TEST_F(HybridAttentionTest, BFloat16InAndOut) {
  const AttentionPlan plan = MakeAttentionPlan(Pattern::Parse("local(chunk=4,left=4)+memory(slots=2,chunk=4)"),
                                               {.num_queries = 21, .num_keys = 21});
  const AttentionInputs in = RandomInputs(plan, {.dim = 32}, true, torch::kBFloat16, random_);
  for (const auto& [name, form] : Forms()) {
    const Tensor out = form(in, plan);
    EXPECT_EQ(out.scalar_type(), torch::kBFloat16);
    EXPECT_TRUE(TensorsMatch(out, Definition(in, plan), 0.02)) << name;
  }
}

TEST_F(HybridAttentionTest, ReadsAnyStrides) {
  const torch::NoGradGuard no_grad;
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("local(chunk=4,left=8)"), {.num_queries = 30, .num_keys = 30});
  // The fused projection of a layer, and a layout whose last axis is not dense.
  const Tensor qkv = torch::randn({2, 30, 3, 2, 8});
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);
  const AttentionInputs fused{.q = parts[0], .k = parts[1], .v = parts[2]};
  const AttentionInputs dense{.q = parts[0].contiguous(), .k = parts[1].contiguous(), .v = parts[2].contiguous()};
  AttentionInputs odd = dense;
  odd.k = dense.k.transpose(2, 3).contiguous().transpose(2, 3);
  const Tensor expected = HybridAttentionReference(dense, plan);
  for (const AttentionInputs& in : {fused, dense, odd})
    EXPECT_TRUE(TensorsMatch(HybridAttention(in, plan), expected, 1e-5));
}

TEST_F(HybridAttentionTest, WeightsAreThoseOfTheOutput) {
  const Pattern pattern = Pattern::Parse("local(chunk=4,left=4)");
  const AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = 11, .num_keys = 11});
  AttentionInputs in = RandomInputs(plan, {}, true, torch::kFloat, random_);
  in.lens = torch::tensor({11, 9}, torch::kInt64);
  const Tensor weights = AttentionWeights(in, plan);
  EXPECT_TRUE(TensorsMatch(weights[0].sum(2), torch::ones({2, 11}), 1e-6));
  EXPECT_TRUE(TensorsMatch(weights[1].sum(2).narrow(1, 9, 2), torch::zeros({2, 2}), 0));
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
  AttentionInputs in = RandomInputs(plan, {}, false, torch::kFloat, random_);
  in.k = torch::zeros({2, 2, 5, 4});
  EXPECT_THROW(HybridAttention(in, plan), LogicError);
  EXPECT_THROW(MakeAttentionPlan(Pattern(), {.num_queries = 4, .num_keys = 4, .key_positions = {1, 2}}), LogicError);
}

TEST_F(HybridAttentionTest, ShapesThatDoNotFitAreRefused) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("learned(block=2,blocks=2)"), {.num_queries = 8, .num_keys = 8});
  const AttentionInputs good = RandomInputs(plan, {}, true, torch::kFloat, random_);
  EXPECT_NO_THROW(HybridAttention(good, plan));
  const auto refused = [&](const std::function<void(AttentionInputs&)>& change) {
    AttentionInputs in = good;
    change(in);
    EXPECT_THROW(HybridAttention(in, plan), LogicError);
  };
  refused([](AttentionInputs& in) { in.k = in.k.narrow(3, 0, 2); });
  refused([](AttentionInputs& in) { in.v = in.v.narrow(0, 0, 1); });
  refused([](AttentionInputs& in) { in.bias = in.bias.narrow(0, 0, 1); });
  refused([](AttentionInputs& in) { in.bias = in.bias.narrow(1, 0, 7); });
  refused([](AttentionInputs& in) { in.lens = torch::tensor({8}, torch::kInt64); });
  refused([](AttentionInputs& in) { in.selection = in.selection.narrow(1, 0, 3).contiguous(); });
  refused([](AttentionInputs& in) { in.selection_score = in.selection_score.narrow(2, 0, 1); });
}

TEST_F(HybridAttentionTest, TypesMayDiffer) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("sliding(left=3,right=1)"), {.num_queries = 9, .num_keys = 9});
  AttentionInputs in = RandomInputs(plan, {}, false, torch::kFloat, random_);
  in.k = in.k.to(torch::kBFloat16), in.v = in.v.to(torch::kDouble);
  for (const auto& [name, form] : Forms()) {
    const Tensor out = form(in, plan);
    EXPECT_EQ(out.scalar_type(), torch::kFloat) << name;
    EXPECT_TRUE(TensorsMatch(out, Definition(in, plan), 1e-5)) << name;
  }
}

// The kernels know the first derivative alone, and say so.
TEST_F(HybridAttentionTest, GradientsOfGradientsAreRefused) {
  const AttentionPlan plan =
      MakeAttentionPlan(Pattern::Parse("sliding(left=3,right=1)"), {.num_queries = 9, .num_keys = 9});
  AttentionInputs in = RandomInputs(plan, {}, false, torch::kFloat, random_);
  in.q.requires_grad_();
  const auto twice = [&](const Form& form) {
    torch::autograd::grad({form(in, plan).sum()}, {in.q}, {}, true, /*create_graph=*/true);
  };
  EXPECT_THROW(twice(HybridAttentionCpu), LogicError);
  EXPECT_NO_THROW(
      twice([](const AttentionInputs& i, const AttentionPlan& p) { return HybridAttentionGathered(i, p); }));
}

}  // namespace
}  // namespace earshot
