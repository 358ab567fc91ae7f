// What the tests of src/data share: a folder that goes away, tones as audio, the text of an Error.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numbers>
#include <string>
#include <vector>

#include "src/audio/wav_writer.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {

class TestFolder {
 public:
  TestFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ =
        std::filesystem::path(testing::TempDir()) / fmt::format("earshot_{}_{}", test->test_suite_name(), test->name());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }

  std::string Path(const std::string& name) const { return (path_ / name).string(); }
  std::string Write(const std::string& name, const std::string& content) const {
    WriteFileAtomically(Path(name), content);
    return Path(name);
  }
  std::string WriteTone(const std::string& name, double seconds, double hz = 440, int sample_rate = 16000) const;

 private:
  std::filesystem::path path_;
};

inline std::vector<float> Tone(double seconds, double hz, int sample_rate = 16000) {
  std::vector<float> samples(static_cast<size_t>(std::lround(seconds * sample_rate)));
  for (size_t i = 0; i < samples.size(); ++i)
    samples[i] = 0.5F * static_cast<float>(std::sin(2 * std::numbers::pi * hz * static_cast<double>(i) / sample_rate));
  return samples;
}

inline std::string TestFolder::WriteTone(const std::string& name, double seconds, double hz, int sample_rate) const {
  std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
  WriteWav(Path(name), Tone(seconds, hz, sample_rate), sample_rate);
  return Path(name);
}

// The message of the Error that function throws.
template <class F>
std::string ErrorOf(F&& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace earshot
