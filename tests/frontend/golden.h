// Reads the arrays of tests/frontend/golden, and compares features with them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {

// The values of a .npy file of version 1, C order, little-endian, as stored by numpy.save.
template <class T>
std::vector<T> ReadNpy(const std::string& name, const std::string& type) {
  const std::string path = std::string(EARSHOT_SOURCE_DIR) + "/tests/frontend/golden/" + name + ".npy";
  const std::string bytes = ReadFile(path);
  if (bytes.size() < 10 || bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0)
    Throw("{}: not a .npy file of version 1", path);
  const size_t header_size = static_cast<uint8_t>(bytes[8]) + 256 * static_cast<size_t>(static_cast<uint8_t>(bytes[9]));
  if (bytes.substr(10, header_size).find("'" + type + "'") == std::string::npos) Throw("{}: not of {}", path, type);
  const size_t start = 10 + header_size;
  std::vector<T> values((bytes.size() - start) / sizeof(T));
  std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(T));
  return values;
}

// The input of every golden feature, in [-1, 1]: speech, noise, digital silence, noise on an offset, a tone.
inline std::vector<float> GoldenInput() {
  std::vector<float> samples;
  for (const int16_t x : ReadNpy<int16_t>("input", "<i2")) samples.push_back(static_cast<float>(x) / 32768.0f);
  return samples;
}

inline std::vector<float> GoldenFeatures(const std::string& name) { return ReadNpy<float>(name, "<f4"); }

// Of the same size, and the largest difference at most tolerance; a failure names the place.
inline void ExpectNear(std::span<const float> actual, std::span<const float> expected, int dim, float tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  ASSERT_FALSE(expected.empty());
  size_t worst = 0;
  const auto difference = [&](size_t i) {
    const float d = std::abs(actual[i] - expected[i]);
    return std::isnan(d) ? INFINITY : d;
  };
  for (size_t i = 1; i < actual.size(); ++i) {
    if (difference(i) > difference(worst)) worst = i;
  }
  EXPECT_LE(difference(worst), tolerance)
      << "frame " << worst / static_cast<size_t>(dim) << ", value " << worst % static_cast<size_t>(dim) << ": "
      << actual[worst] << ", expected " << expected[worst] << ", relative "
      << difference(worst) / std::abs(expected[worst]);
}

}  // namespace earshot
