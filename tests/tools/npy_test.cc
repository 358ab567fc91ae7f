#include "tools/cli/npy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "src/base/error.h"

namespace earshot {
namespace {

// What numpy.lib.format.write_array_header_1_0 writes for a (2, 3) array of '<f4', in the order of its keys.
TEST(Npy, HeaderIsNumpys) {
  const std::string header = NpyHeader(2, 3);
  ASSERT_EQ(header.size(), 128U);
  EXPECT_EQ(header.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_EQ(header.substr(10, 59), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
  EXPECT_EQ(header.find_first_not_of(' ', 69), 127U);
  EXPECT_EQ(header.back(), '\n');
}

TEST(Npy, RowsAppendedInPartsAreCounted) {
  const std::string path = (std::filesystem::temp_directory_path() / "earshot_npy_test.npy").string();
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  {
    NpyWriter npy(path, 2);
    npy.Append(std::span(values).first(2));
    npy.Append(std::span(values).subspan(2));
    npy.Finish();
  }
  const std::string bytes = ReadFile(path);
  ASSERT_EQ(bytes.size(), 128 + 6 * sizeof(float));
  EXPECT_EQ(bytes.substr(0, 128), NpyHeader(3, 2));
  EXPECT_EQ(std::memcmp(bytes.data() + 128, values.data(), 6 * sizeof(float)), 0);
  std::filesystem::remove(path);
}

TEST(Npy, WithoutFinishNothingRemains) {
  const std::string path = (std::filesystem::temp_directory_path() / "earshot_npy_unfinished.npy").string();
  { NpyWriter npy(path, 2); }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace earshot
