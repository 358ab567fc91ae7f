#include "src/nn/rounded_rows.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>

#include "src/nn/linear.h"
#include "tests/support/tensor_match.h"

namespace earshot {
namespace {

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

}  // namespace
}  // namespace earshot
