#include "src/nn/rounded_rows.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>
#include <utility>
#include <vector>

#include "src/nn/inference.h"
#include "src/nn/linear.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

using torch::Tensor;

TEST(RoundedRows, GivesFewHeightsAndLittleMore) {
  EXPECT_EQ(RoundedRows::Of(37), 37);
  {
    const RoundedRows rounded(8);
    std::set<int64_t> heights;
    for (int64_t rows = 1; rows <= 4096; ++rows) {
      const int64_t height = RoundedRows::Of(rows);
      heights.insert(height);
      EXPECT_GE(height, rows);
      EXPECT_LE(height, std::max<int64_t>(16, rows + (rows + 7) / 8 + 15));
      EXPECT_EQ(RoundedRows::Of(height), height);
    }
    EXPECT_LE(heights.size(), 64U);
    const RoundedRows nested(0);
    EXPECT_EQ(RoundedRows::Of(37), 48) << "what is round it still counts";
  }
  EXPECT_EQ(RoundedRows::Of(37), 37);
  const RoundedRows finer(32);
  EXPECT_EQ(RoundedRows::Of(1000), 1008);
  EXPECT_EQ(RoundedRows::Of(1100), 1120);
  const RoundedRows of_many(2, 64);
  EXPECT_EQ(RoundedRows::Of(0), 0);
  EXPECT_EQ(RoundedRows::Of(1), 64);
  EXPECT_EQ(RoundedRows::Of(65), 96);
}

TEST(RoundedRows, ChangesNoProduct) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  Linear layer(48, 40);
  layer.eval();
  for (const InferencePrecision precision :
       {InferencePrecision::kFloat, InferencePrecision::kBFloat16, InferencePrecision::kInt8}) {
    layer.Prepack(precision);
    for (const int64_t rows : {0, 1, 15, 16, 37, 300}) {
      const torch::Tensor x = torch::randn({1, rows, 48});
      const torch::Tensor expected = layer.forward(x);
      const RoundedRows rounded(8);
      EXPECT_TRUE(TensorsMatch(layer.forward(x), expected, 1e-5)) << rows << " rows";
      // What lies behind the rows in the same memory is in no product.
      const torch::Tensor all = torch::cat({x, torch::full({1, 64, 48}, NAN)}, 1);
      EXPECT_TRUE(TensorsMatch(layer.forward(all.narrow(1, 0, rows)), expected, 1e-5)) << rows << " rows of more";
    }
  }
}

// Products may multiply what lies behind the last row by zeros, and memory that was used before may hold NaN there: of
// these shapes oneDNN does so for 144 to 288 in bfloat16.
TEST(RoundedRows, HaveNumbersBehindThem) {
  const torch::NoGradGuard no_grad;
  for (const auto precision : {InferencePrecision::kFloat, InferencePrecision::kBFloat16, InferencePrecision::kInt8}) {
    for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{
             {20, 100}, {144, 432}, {144, 576}, {576, 144}, {144, 288}, {640, 144}}) {
      torch::manual_seed(7);
      const PackedMatrix matrix(torch::randn({out, in}), torch::randn({out}), precision);
      for (const int64_t count : {3, 37, 250, 300, 389, 470, 507}) {
        const Tensor x = torch::randn({count, in});
        const Tensor expected = matrix.Multiply(Convert(x, matrix.input_type())).Value();
        const RoundedRows rounded(8);
        // What the next allocations of this size are likely to get.
        std::vector<Tensor> used;
        for (int i = 0; i < 4; ++i)
          used.push_back(torch::full({RoundedRows::Of(count), in}, NAN).to(matrix.input_type()));
        used.clear();
        const Activation activation = Convert(x, matrix.input_type());
        EXPECT_TRUE(TensorsMatch(matrix.Multiply(activation).Value(), expected, 1e-4)) << in << ", " << count;
        if (matrix.input_type() == torch::kFloat) continue;  // as it came
        const int64_t width = matrix.input_type() == torch::kBFloat16 ? in : 0;
        const int64_t behind = RoundedRows::Of(count, width) - count;
        const Tensor zeros = activation.values.as_strided({behind, in}, {in, 1}, count * in).to(torch::kFloat);
        EXPECT_EQ(zeros.count_nonzero().item<int64_t>(), 0) << in << ", " << count;
      }
    }
  }
}

// Bit for bit: who is computed beside a stream changes no word of it.
TEST(RoundedRows, AreTheSameWhateverStandsBeside) {
  const torch::NoGradGuard no_grad;
  for (const auto precision : {InferencePrecision::kBFloat16, InferencePrecision::kInt8}) {
    for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{
             {144, 432}, {144, 576}, {576, 144}, {144, 288}, {1440, 144}, {1024, 256}, {256, 1024}}) {
      torch::manual_seed(7);
      const PackedMatrix matrix(torch::randn({out, in}), torch::randn({out}), precision);
      if (matrix.input_type() == torch::kFloat) continue;  // no bfloat16 here
      const Tensor x = torch::randn({700, in});
      const RoundedRows rounded(8);
      const Tensor expected = matrix.Multiply(Convert(x, matrix.input_type())).Value();
      for (const int64_t count :
           {1, 3, 8, 16, 30, 48, 64, 80, 100, 128, 150, 190, 230, 256, 257, 272, 300, 333, 400, 420, 511, 600, 650}) {
        for (const int64_t first : {int64_t{0}, 700 - count}) {
          const Tensor some = matrix.Multiply(Convert(x.narrow(0, first, count), matrix.input_type())).Value();
          EXPECT_TRUE(torch::equal(some, expected.narrow(0, first, count)))
              << in << " to " << out << ", " << count << " rows from " << first;
        }
      }
    }
  }
}

}  // namespace
}  // namespace earshot
