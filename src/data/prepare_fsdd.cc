// The Free Spoken Digit Dataset (Jackson et al., 10.5281/zenodo.1342401): English digits, one a recording, 8 kHz,
// named {digit}_{speaker}_{index}.wav. The official split: indices 0 to 4 are the test set.
#include <algorithm>
#include <array>
#include <filesystem>

#include "src/base/error.h"
#include "src/data/prepare_corpora.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 10> kDigits = {"zero", "one", "two",   "three", "four",
                                                 "five", "six", "seven", "eight", "nine"};
constexpr int kTestIndices = 5;

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() < 9 && text.find_first_not_of("0123456789") == std::string::npos;
}

Utterance ReadName(const fs::path& path, int& index) {
  Utterance utterance;
  utterance.id = path.stem().string();
  utterance.audio_path = path.string();
  const size_t first = utterance.id.find('_'), last = utterance.id.rfind('_');
  const bool parts = first == 1 && last != std::string::npos && last > first + 1;
  if (!parts || !IsNumber(utterance.id.substr(0, 1)) || !IsNumber(utterance.id.substr(last + 1)))
    Throw("{}: expected a name such as 7_jackson_32.wav; is it of this corpus?", path.string());
  utterance.text = kDigits[static_cast<size_t>(utterance.id[0] - '0')];
  utterance.speaker = utterance.id.substr(first + 1, last - first - 1);
  index = std::stoi(utterance.id.substr(last + 1));
  return utterance;
}

Splits ReadFsdd(const CorpusPreparer& corpus, const std::string& source_dir, const std::string&) {
  fs::path folder = source_dir;
  if (fs::exists(folder / "recordings")) folder /= "recordings";
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".wav") paths.push_back(entry.path());
  }
  if (paths.empty()) ThrowWrongFolder(corpus, source_dir, "recordings/7_jackson_32.wav or its like");
  std::sort(paths.begin(), paths.end());
  Splits splits;
  for (const fs::path& path : paths) {
    int index = 0;
    Utterance utterance = ReadName(path, index);
    utterance.duration_s = Durations({utterance})[0];
    splits[index < kTestIndices ? "test" : "train"].push_back(std::move(utterance));
  }
  return splits;
}

}  // namespace

CorpusPreparer FsddPreparer() {
  return {"fsdd", "Free Spoken Digit Dataset: six speakers, English digits; 2700 + 300 recordings, 0.4 h",
          "clone https://github.com/Jakobovski/free-spoken-digit-dataset and give its folder (it holds recordings/)",
          ReadFsdd, nullptr};
}

}  // namespace earshot
