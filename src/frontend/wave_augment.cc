#include "src/frontend/wave_augment.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "src/audio/audio_reader.h"
#include "src/audio/resampler.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/frontend/convolution.h"

namespace earshot {
namespace {

double MeanSquare(std::span<const float> samples) {
  double sum = 0;
  for (const float x : samples) sum += static_cast<double>(x) * x;
  return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

void ValidateRange(const char* key, const std::vector<double>& range, double low, double high) {
  if (range.empty()) return;
  if (range.size() != 2) Throw("augment.{}: {} values, expected the lowest and the highest", key, range.size());
  if (!(low <= range[0] && range[0] <= range[1] && range[1] <= high))
    Throw("augment.{}: [{}, {}], expected two rising values in {} to {}", key, range[0], range[1], low, high);
}

void ValidateProbability(const char* key, double probability, const std::string& list_key, const std::string& list) {
  if (!(probability >= 0 && probability <= 1)) Throw("augment.{}: {}, expected 0 to 1", key, probability);
  if (probability > 0 && list.empty()) Throw("augment.{}: {}, but augment.{} is empty", key, probability, list_key);
}

// The paths of a list (see WaveAugmentOptions::noise_list), absolute or relative to the working folder.
std::vector<std::string> ReadList(const std::string& list) {
  std::istringstream lines(ReadFile(list));
  std::vector<std::string> paths;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
    if (line.empty()) continue;
    std::string path = line;
    if (line.front() == '{') {
      const auto entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!entry.is_object() || !entry.contains("audio_filepath") || !entry["audio_filepath"].is_string())
        Throw("{}:{}: no JSON object with the string \"audio_filepath\"", list, number);
      path = entry["audio_filepath"].get<std::string>();
    }
    paths.push_back((std::filesystem::path(list).parent_path() / path).string());
  }
  if (paths.empty()) Throw("{}: lists no recording", list);
  return paths;
}

}  // namespace

std::vector<std::vector<float>> LoadRecordings(const std::string& list, int sample_rate) {
  std::vector<std::vector<float>> recordings;
  for (const std::string& path : ReadList(list)) {
    AudioOptions audio;
    audio.sample_rate = sample_rate;
    audio.allow_damaged = true;  // what is left of a noise is noise
    recordings.push_back(ReadAudio(path, audio));
    if (MeanSquare(recordings.back()) == 0) Throw("{} (from {}): only silence, take it off the list", path, list);
  }
  return recordings;
}

void WaveAugmentOptions::Visit(OptionVisitor& v) {
  v.Field("sample_rate", sample_rate);
  v.Field("speed_factors", speed_factors);
  v.Field("speed_range", speed_range);
  v.Field("gain_db", gain_db);
  v.Field("noise_list", noise_list);
  v.Field("noise_probability", noise_probability);
  v.Field("snr_db", snr_db);
  v.Field("rir_list", rir_list);
  v.Field("rir_probability", rir_probability);
}

void WaveAugmentOptions::Validate() const {
  if (sample_rate <= 0) Throw("augment.sample_rate: {} Hz, expected more than 0", sample_rate);
  for (const double factor : speed_factors) {
    if (!(factor >= 0.25 && factor <= 4)) Throw("augment.speed_factors: {}, expected 0.25 to 4", factor);
  }
  ValidateRange("speed_range", speed_range, 0.25, 4);
  ValidateRange("gain_db", gain_db, -100, 100);
  ValidateProbability("noise_probability", noise_probability, "noise_list", noise_list);
  ValidateRange("snr_db", snr_db, -100, 200);
  if (noise_probability > 0 && snr_db.empty()) Throw("augment.snr_db: empty, but augment.noise_probability is not 0");
  ValidateProbability("rir_probability", rir_probability, "rir_list", rir_list);
}

WaveAugment::WaveAugment(const WaveAugmentOptions& options) : options_(options) {
  options_.Validate();
  if (options_.noise_probability > 0) noises_ = LoadRecordings(options_.noise_list, options_.sample_rate);
  if (options_.rir_probability > 0) rooms_ = LoadRecordings(options_.rir_list, options_.sample_rate);
}

void WaveAugment::Apply(std::vector<float>& samples, int sample_rate, Random& random) const {
  EARSHOT_CHECK(sample_rate == options_.sample_rate, "samples at {} Hz, augmentation at {}", sample_rate,
                options_.sample_rate);
  const auto draw = [&](const std::vector<double>& range) { return random.Uniform(range[0], range[1]); };
  const auto pick = [&](const auto& items) -> const auto& {
    return items[static_cast<size_t>(random.Index(static_cast<int64_t>(items.size())))];
  };
  double speed = 1;
  if (!options_.speed_factors.empty()) speed *= pick(options_.speed_factors);
  if (!options_.speed_range.empty()) speed *= draw(options_.speed_range);
  if (speed != 1) samples = ChangeSpeed(samples, speed, sample_rate);
  if (!rooms_.empty() && random.Chance(options_.rir_probability)) Reverberate(samples, pick(rooms_));
  if (!noises_.empty() && random.Chance(options_.noise_probability)) {
    const std::vector<float>& noise = pick(noises_);
    const auto offset = static_cast<size_t>(random.Index(static_cast<int64_t>(noise.size())));
    AddNoise(samples, noise, offset, draw(options_.snr_db), sample_rate);
  }
  if (!options_.gain_db.empty()) {
    const auto gain = static_cast<float>(std::pow(10.0, draw(options_.gain_db) / 20));
    for (float& x : samples) x *= gain;
  }
}

std::vector<float> ChangeSpeed(std::span<const float> samples, double factor, int sample_rate) {
  EARSHOT_CHECK(factor > 0, "speed factor {}", factor);
  // The samples are taken to have come at factor times the rate, and brought back to it.
  return Resample(samples, sample_rate * factor, sample_rate);
}

double ActivePower(std::span<const float> samples, int sample_rate) {
  const size_t frame =
      std::clamp<size_t>(static_cast<size_t>(sample_rate / 40), 1, std::max<size_t>(1, samples.size()));
  std::vector<double> powers;
  for (size_t first = 0; first + frame <= samples.size(); first += frame)
    powers.push_back(MeanSquare(samples.subspan(first, frame)));
  if (powers.empty()) return 0;
  const double threshold = 1e-3 * *std::max_element(powers.begin(), powers.end());
  double sum = 0;
  int active = 0;
  for (const double power : powers) {
    if (power < threshold) continue;
    sum += power;
    ++active;
  }
  return sum / active;
}

void AddNoise(std::span<float> samples, std::span<const float> noise, size_t offset, double snr_db, int sample_rate) {
  EARSHOT_CHECK(!noise.empty(), "AddNoise without noise");
  const double signal_power = ActivePower(samples, sample_rate);
  double noise_power = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double x = noise[(offset + i) % noise.size()];
    noise_power += x * x;
  }
  if (signal_power == 0 || noise_power == 0) return;
  noise_power /= static_cast<double>(samples.size());
  const auto scale = static_cast<float>(std::sqrt(signal_power / noise_power * std::pow(10.0, -snr_db / 10)));
  for (size_t i = 0; i < samples.size(); ++i) samples[i] += scale * noise[(offset + i) % noise.size()];
}

void Reverberate(std::span<float> samples, std::span<const float> impulse_response) {
  EARSHOT_CHECK(!impulse_response.empty(), "Reverberate without an impulse response");
  const auto direct = std::max_element(impulse_response.begin(), impulse_response.end(),
                                       [](float a, float b) { return std::abs(a) < std::abs(b); });
  const double before = MeanSquare(samples);
  const std::vector<float> full = Convolve(samples, impulse_response);
  if (full.empty()) return;
  std::copy_n(full.begin() + (direct - impulse_response.begin()), samples.size(), samples.begin());
  const double after = MeanSquare(samples);
  if (after == 0) return;
  const auto scale = static_cast<float>(std::sqrt(before / after));
  for (float& x : samples) x *= scale;
}

}  // namespace earshot
