#include "src/nn/row_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace earshot {
namespace {

// The arithmetic is tested through inference.h, against ATen; here is what only these functions have.
TEST(RowKernel, DepthwiseWeightsStandBetweenZeros) {
  constexpr int64_t kDim = 19, kKernel = 3, kTaps = kKernel + 2 * (kDepthwiseTile - 1);
  std::vector<float> weight(kDim * kKernel);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i + 1);
  ASSERT_EQ(PackedDepthwiseSize(kDim, kKernel), 2 * kTaps * kDepthwiseChannels);
  std::vector<float> packed(2 * kTaps * kDepthwiseChannels, -1);
  PackDepthwise(weight.data(), kDim, kKernel, packed.data());
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t tap = 0; tap < kTaps; ++tap) {
      const int64_t k = tap - (kDepthwiseTile - 1);
      const bool inside = c < kDim && k >= 0 && k < kKernel;
      const float expected = inside ? static_cast<float>(c * kKernel + k + 1) : 0;
      EXPECT_EQ(packed[static_cast<size_t>((c / 16 * kTaps + tap) * 16 + c % 16)], expected) << c << " " << tap;
    }
  }
}

// Over the whole range of floats and of bf16, and for what is not finite.
TEST(RowKernel, SiluIsAsAccurateAsStated) {
  std::vector<float> x;
  for (float v = 1e-30F; v < 3e38F; v *= 1.0007F) {
    x.push_back(v);
    x.push_back(-v);
  }
  x.push_back(0);
  const auto count = static_cast<int64_t>(x.size());
  for (const SimdLevel level : SupportedSimdLevels()) {
    std::vector<float> y(x.size()), scratch(x.size());
    MapArguments a{.dim = count, .function = RowFunction::kSilu, .in = {.data = x.data()}, .out = {.data = y.data()}};
    GetRowKernels(level).map(a, 0, 1, scratch.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = static_cast<double>(x[i]) / (1 + std::exp(-static_cast<double>(x[i])));
      if (std::abs(exact) > 1e-30) worst = std::max(worst, std::abs(y[i] / exact - 1));
    }
    EXPECT_LT(worst, 4e-7) << Name(level);
    std::vector<uint16_t> narrow(x.size());
    a.out = {.data = narrow.data(), .type = RowType::kBFloat16};
    GetRowKernels(level).map(a, 0, 1, scratch.data());
    worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const uint32_t bits = static_cast<uint32_t>(narrow[i]) << 16;
      float value = 0;
      static_assert(sizeof(value) == sizeof(bits));
      __builtin_memcpy(&value, &bits, sizeof(bits));
      const double exact = static_cast<double>(x[i]) / (1 + std::exp(-static_cast<double>(x[i])));
      if (std::abs(exact) > 1e-30 && std::abs(exact) < 3e38) worst = std::max(worst, std::abs(value / exact - 1));
    }
    EXPECT_LT(worst, 1.0 / 256 + 2e-4) << Name(level);
    x.back() = std::nanf("");
    GetRowKernels(level).map(a, 0, 1, scratch.data());
    EXPECT_EQ(narrow.back() & 0x7fc0, 0x7fc0) << Name(level);
    x.back() = 0;
  }
}

#if defined(__x86_64__)
// Code that was compiled for AVX must not be reachable under a name that other files use too: the linker would keep
// one of both, and a CPU without AVX would stop at it. So those objects are to have no weak symbols at all.
TEST(RowKernel, ShareNoTemplateWithTheRest) {
  const std::string library = std::string(EARSHOT_BINARY_DIR) + "/src/nn/libearshot_nn.a";
  std::FILE* pipe = popen(("nm -C '" + library + "'").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string object;
  int checked = 0;
  std::array<char, 4096> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    std::string line = buffer.data();
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    if (line.ends_with(".o:")) object = line;
    if (object.find("row_kernel_avx") == std::string::npos || line.size() < 20) continue;
    if (line.find("DW.ref.") != std::string::npos) continue;  // data of unwinding, of builds with sanitizers
    ++checked;
    // W and V: weak; u: unique.
    EXPECT_EQ(std::string("WVu").find(line[17]), std::string::npos) << object << " " << line;
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_GE(checked, 9);
}
#endif

}  // namespace
}  // namespace earshot
