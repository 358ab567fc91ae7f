#include "src/train/training_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numbers>
#include <thread>

#include "src/audio/audio_reader.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/frontend/feature_extractor.h"
#include "src/frontend/wave_augment.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

constexpr size_t kCmvnUtterances = 2000;

// Every n-th item, so that at most `most` are taken from all over the list.
std::vector<Utterance> Sample(const std::vector<Utterance>& all, size_t most) {
  const size_t step = (all.size() + most - 1) / most;
  std::vector<Utterance> sample;
  for (size_t i = 0; i < all.size(); i += std::max<size_t>(1, step)) sample.push_back(all[i]);
  return sample;
}

}  // namespace

TrainingData LoadTrainingData(const DataOptions& options) {
  TrainingData data;
  data.train = LoadManifest(options.train, options.train_split);
  if (!options.dev.empty()) data.dev = LoadManifest(options.dev, options.dev_split);
  for (auto* list : {&data.train, &data.dev}) {
    for (Utterance& utterance : *list) utterance.text = Normalize(options.normalize, utterance.text);
    const std::vector<double> durations = Durations(*list);
    for (size_t i = 0; i < list->size(); ++i) (*list)[i].duration_s = durations[i];
  }
  return data;
}

std::string MakeTokenizer(const Recipe& recipe, const std::vector<Utterance>& train, const std::string& path) {
  if (!recipe.tokenizer_model.empty()) return ReadFile(recipe.tokenizer_model);
  if (!recipe.init_from.empty()) return ReadFile((fs::path(recipe.init_from) / "tokenizer.model").string());
  if (!fs::exists(path)) {
    std::vector<std::string> texts;
    for (const Utterance& utterance : train) {
      if (!utterance.text.empty()) texts.push_back(utterance.text);
    }
    TrainTokenizer(recipe.tokenizer, texts, path);
  }
  return ReadFile(path);
}

void RequireKnownTexts(const Tokenizer& tokenizer, const std::vector<Utterance>& utterances) {
  int64_t tokens = 0, unknown = 0;
  const Utterance* first = nullptr;
  for (const Utterance& utterance : utterances) {
    const std::vector<int> ids = tokenizer.Encode(utterance.text);
    const auto missing = std::count(ids.begin(), ids.end(), tokenizer.unk_id());
    if (missing > 0 && !first) first = &utterance;
    tokens += static_cast<int64_t>(ids.size());
    unknown += missing;
  }
  if (!first) return;
  const std::string what = fmt::format("{} of {} tokens of data.train are unknown to the tokenizer, {} first: '{}'",
                                       unknown, tokens, first->id, first->text);
  if (2 * unknown >= tokens)  // the marks of words are always known
    Throw("{}; are the letters of another case (data.normalize), or the tokenizer of another corpus?", what);
  LogWarning("{}", what);
}

GlobalCmvn ComputeCmvn(const FeatureOptions& features, const std::vector<Utterance>& train, int num_threads) {
  const auto extractor = MakeFeatureExtractor(features);
  const std::vector<Utterance> sample = Sample(train, kCmvnUtterances);
  // One accumulator an utterance, added up in order: the same sums whatever the threads.
  std::vector<CmvnAccumulator> parts(sample.size(), CmvnAccumulator(extractor->dim()));
  std::atomic<size_t> next{0};
  std::string reason;
  std::mutex mutex;
  const auto run = [&] {
    for (size_t i = next++; i < sample.size(); i = next++) {
      try {
        const Utterance& u = sample[i];
        parts[i].Accept(extractor->Compute(
            ReadAudio(u.audio_path,
                      {.sample_rate = extractor->sample_rate(), .offset_s = u.offset_s, .duration_s = u.duration_s})));
      } catch (const Error& e) {
        const std::lock_guard lock(mutex);
        reason = e.what();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int t = 1; t < num_threads; ++t) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
  CmvnAccumulator sum(extractor->dim());
  for (const CmvnAccumulator& part : parts) sum += part;
  if (sum.num_frames() == 0)
    Throw("none of {} training utterances could be read; the last one said: {}", sample.size(), reason);
  return sum.Finish();
}

SilenceMaker::SilenceMaker(const std::string& noise_list, int sample_rate) : sample_rate_(sample_rate) {
  if (!noise_list.empty()) noises_ = LoadRecordings(noise_list, sample_rate);
}

std::vector<float> SilenceMaker::Draw(Random& random) const {
  std::vector<float> samples(static_cast<size_t>(random.Uniform(1, 6) * sample_rate_), 0.0F);
  const auto level = static_cast<float>(std::pow(10.0, random.Uniform(-80, -10) / 20));
  const int64_t kind = random.Index(noises_.empty() ? 5 : 8);
  if (kind >= 5) {
    const std::vector<float>& noise = noises_[static_cast<size_t>(random.Index(static_cast<int64_t>(noises_.size())))];
    const auto offset = static_cast<size_t>(random.Index(static_cast<int64_t>(noise.size())));
    float power = 1e-12F;
    for (const float x : noise) power += x * x / static_cast<float>(noise.size());
    for (size_t i = 0; i < samples.size(); ++i)
      samples[i] = level / std::sqrt(power) * noise[(offset + i) % noise.size()];
    return samples;
  }
  const double hum_hz = random.Chance(0.5) ? 50 : 60;
  float pink = 0, brown = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto white = static_cast<float>(random.Normal());
    pink = 0.95F * pink + 0.3F * white;
    brown = 0.998F * brown + 0.06F * white;
    const double phase = 2 * std::numbers::pi * hum_hz * static_cast<double>(i) / sample_rate_;
    const auto hum = static_cast<float>(std::sin(phase) + 0.5 * std::sin(3 * phase) + 0.05 * white);
    const float kinds[] = {0.0F, white, pink, brown, hum};
    samples[i] = level * kinds[kind];
  }
  return samples;
}

}  // namespace earshot
