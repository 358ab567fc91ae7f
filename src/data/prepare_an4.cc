// CMU AN4, the "census" corpus (Acero 1990): letters, digits, dates and a few commands over a close microphone;
// 948 training and 130 test utterances of other speakers.
//
//   an4/etc/an4_{train,test}.fileids        an4_clstk/fash/an251-fash-b
//   an4/etc/an4_{train,test}.transcription  <s> YES </s> (an251-fash-b)
//   an4/wav/an4_clstk, an4/wav/an4test_clstk   .raw (16 kHz, 16 bit) or .sph
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <unordered_map>

#include "src/audio/audio_reader.h"
#include "src/audio/wav_writer.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/data/line_reader.h"
#include "src/data/prepare_corpora.h"
#include "src/text/normalizer.h"
#include "src/text/wer.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

constexpr int kRate = 16000;

// The corpus has no dev set: these eight of its 74 training speakers, three women and five men as in the whole,
// 103 utterances. The choice was drawn once and stays, so that results can be compared.
constexpr std::array<const char*, 8> kDevSpeakers = {"fclc", "flmm2", "fsaf2", "mblw", "mdcs", "mjhp", "mrcb", "mtcv"};

// 16 bit samples from two bytes each, the first the higher one where asked.
std::vector<float> FromBytes(const std::string& bytes, bool big_endian) {
  std::vector<float> samples(bytes.size() / 2);
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto first = static_cast<unsigned char>(bytes[2 * i]), second = static_cast<unsigned char>(bytes[2 * i + 1]);
    const unsigned value = big_endian ? (first << 8U) | second : (second << 8U) | first;
    samples[i] = static_cast<float>(static_cast<int16_t>(value)) / 32768;
  }
  return samples;
}

// How much neighbouring samples differ: in the wrong byte order speech is noise at full scale.
double Roughness(const std::vector<float>& samples) {
  double sum = 0;
  for (size_t i = 1; i < samples.size(); ++i) sum += std::abs(samples[i] - samples[i - 1]);
  return sum;
}

// The corpus comes as an4_raw.bigendian and an4_raw.littleendian, in folders of one name; the samples tell.
std::vector<float> ReadRaw(const std::string& path) {
  const std::string bytes = ReadFile(path);
  if (bytes.empty() || bytes.size() % 2 != 0)
    Throw("{}: {} bytes, expected 16 bit samples; was the download cut off?", path, bytes.size());
  std::vector<float> big = FromBytes(bytes, true), little = FromBytes(bytes, false);
  return Roughness(big) <= Roughness(little) ? big : little;
}

// "<s> YES </s> (an251-fash-b)" -> {"an251-fash-b", "YES"}
std::pair<std::string, std::string> ParseTranscription(const std::string& line, const std::string& where) {
  const size_t open = line.rfind('('), close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open)
    Throw("{}: '{}' has no (id) at its end", where, line);
  std::string text;
  for (const std::string& word : SplitWords(line.substr(0, open))) {
    if (word == "<s>" || word == "</s>") continue;
    text += (text.empty() ? "" : " ") + word;
  }
  return {line.substr(open + 1, close - open - 1), Normalize({.letter_case = LetterCase::kUpper}, text)};
}

std::unordered_map<std::string, std::string> ReadTranscriptions(const fs::path& path) {
  std::unordered_map<std::string, std::string> texts;
  LineReader reader(path.string());
  std::string line;
  while (reader.Next(line)) {
    if (!SplitWords(line).empty()) texts.insert(ParseTranscription(line, reader.Where()));
  }
  return texts;
}

// Converts what no other program reads; returns the path of a WAV file.
std::string ConvertAudio(const fs::path& root, const std::string& file_id, const std::string& output_dir,
                         const std::string& where, double& duration_s) {
  const fs::path raw = root / "wav" / (file_id + ".raw"), sphere = root / "wav" / (file_id + ".sph");
  std::vector<float> samples;
  if (fs::exists(raw))
    samples = ReadRaw(raw.string());
  else if (fs::exists(sphere))
    samples = ReadAudio(sphere.string(), {.sample_rate = kRate});
  else
    Throw("{}: neither {} nor {} is there; was the archive unpacked wholly?", where, raw.string(), sphere.string());
  std::string path = (fs::path(output_dir) / "wav" / (file_id + ".wav")).string();
  WriteWav(path, samples, kRate);
  duration_s = static_cast<double>(samples.size()) / kRate;
  return path;
}

std::vector<Utterance> ReadSplit(const fs::path& root, const std::string& split, const std::string& output_dir) {
  const auto texts = ReadTranscriptions(root / "etc" / fmt::format("an4_{}.transcription", split));
  std::vector<Utterance> utterances;
  LineReader reader((root / "etc" / fmt::format("an4_{}.fileids", split)).string());
  std::string line;
  while (reader.Next(line)) {
    const std::vector<std::string> words = SplitWords(line);
    if (words.empty()) continue;
    const fs::path file_id = words[0];
    Utterance utterance;
    utterance.id = file_id.filename().string();
    utterance.speaker = file_id.parent_path().filename().string();
    const auto text = texts.find(utterance.id);
    if (text == texts.end()) Throw("{}: '{}' has no line in an4_{}.transcription", reader.Where(), words[0], split);
    utterance.text = text->second;
    utterance.audio_path = ConvertAudio(root, words[0], output_dir, reader.Where(), utterance.duration_s);
    utterances.push_back(std::move(utterance));
  }
  return utterances;
}

Splits ReadAn4(const CorpusPreparer& corpus, const std::string& source_dir, const std::string& output_dir) {
  fs::path root = source_dir;
  if (!fs::exists(root / "etc") && fs::exists(root / "an4")) root /= "an4";
  for (const char* name :
       {"an4_train.fileids", "an4_train.transcription", "an4_test.fileids", "an4_test.transcription"}) {
    if (!fs::exists(root / "etc" / name)) ThrowWrongFolder(corpus, source_dir, fmt::format("etc/{}", name));
  }
  return {{"train", ReadSplit(root, "train", output_dir)}, {"test", ReadSplit(root, "test", output_dir)}};
}

void SplitDev(Splits& splits) {
  std::vector<Utterance>& train = splits["train"];
  const auto is_dev = [](const Utterance& utterance) {
    return std::find(kDevSpeakers.begin(), kDevSpeakers.end(), utterance.speaker) != kDevSpeakers.end();
  };
  std::copy_if(train.begin(), train.end(), std::back_inserter(splits["dev"]), is_dev);
  std::erase_if(train, is_dev);
}

}  // namespace

CorpusPreparer An4Preparer() {
  return {"an4", "CMU AN4: spelled names, numbers and dates in English; 948 + 130 utterances, 0.8 h",
          "download an4_raw.bigendian.tar.gz or an4_sphere.tar.gz from http://www.speech.cs.cmu.edu/databases/an4/, "
          "unpack it, and give the folder an4 (it holds etc/ and wav/)",
          ReadAn4, SplitDev};
}

}  // namespace earshot
