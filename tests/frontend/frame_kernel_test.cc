#include "src/frontend/frame_kernel.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace earshot {
namespace {

TEST(KernelLog, IsAsAccurateAsStated) {
  // Every exponent of a normal float, with mantissas all over, and the neighbourhood of 1, where the log is small.
  std::vector<float> x;
  for (uint32_t bits = 0x00800000; bits < 0x7f800000; bits += 9973) x.push_back(std::bit_cast<float>(bits));
  for (uint32_t bits = 0x3f700000; bits < 0x3f880000; bits += 7) x.push_back(std::bit_cast<float>(bits));
  for (const SimdLevel level : SupportedSimdLevels(kHighestFrameLevel)) {
    std::vector<float> log(x.size());
    KernelLog(level, x.data(), static_cast<int>(x.size()), log.data());
    double worst = 0;
    float worst_x = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::log(static_cast<double>(x[i]));
      // In units of the last place of the exact value, or of 1e-7 where that is smaller.
      const double unit = std::max(std::ldexp(1.0, std::ilogb(exact == 0 ? 1e-30 : exact) - 23), 0.5e-7);
      const double error = std::abs(log[i] - exact) / unit;
      if (error <= worst) continue;
      worst = error;
      worst_x = x[i];
    }
    EXPECT_LE(worst, 2.0) << Name(level) << ": at " << worst_x;
    RecordProperty(Name(level), std::to_string(worst));
  }
}

#if defined(__x86_64__)
// Code that was compiled for AVX must not be reachable under a name that other files use too: the linker would keep
// one of both, and a CPU without AVX would stop at it. So every weak symbol of those objects is to name their
// namespace.
TEST(FrameKernel, ShareNoTemplateWithTheRest) {
  const std::string library = std::string(EARSHOT_BINARY_DIR) + "/src/frontend/libearshot_frontend.a";
  std::FILE* pipe = popen(("nm -C '" + library + "'").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string object;
  int checked = 0;
  std::array<char, 4096> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    std::string line = buffer.data();
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    if (line.ends_with(".o:")) object = line;
    const bool wide = object.find("frame_kernel_avx") != std::string::npos;
    if (!wide || line.size() < 20 || line[18] != ' ' || line[16] != ' ') continue;
    const std::string name = line.substr(19);
    // W and V: weak; u: unique. A reference to the personality routine is data, and the same everywhere.
    if (std::string("WVu").find(line[17]) == std::string::npos || name.starts_with("DW.ref.")) continue;
    ++checked;
    EXPECT_NE(name.find("earshot::kernel_avx"), std::string::npos) << object << " " << name;
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_GE(checked, 4);
}
#endif

}  // namespace
}  // namespace earshot
