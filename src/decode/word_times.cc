#include "src/decode/word_times.h"

#include <algorithm>
#include <cmath>

namespace earshot {
namespace {

constexpr double kFrame_s = 0.01;
constexpr double kBelowPeak_db = 30, kAboveFloor_db = 6;

// Which frames of 10 ms hold sound.
std::vector<char> LoudFrames(std::span<const float> samples, int sample_rate) {
  const auto size = static_cast<size_t>(std::lround(kFrame_s * sample_rate));
  std::vector<double> level_db;
  for (size_t at = 0; at + size <= samples.size(); at += size) {
    double energy = 0;
    for (const float x : samples.subspan(at, size)) energy += static_cast<double>(x) * x;
    // 16 bit samples end at -90 dB.
    level_db.push_back(10 * std::log10(energy / static_cast<double>(size) + 1e-9));
  }
  if (level_db.empty()) return {};
  std::vector<double> sorted = level_db;
  std::sort(sorted.begin(), sorted.end());
  const auto percentile = [&](double p) {
    return sorted[static_cast<size_t>(p * static_cast<double>(sorted.size() - 1))];
  };
  const double threshold_db = std::max(percentile(0.95) - kBelowPeak_db, percentile(0.05) + kAboveFloor_db);
  std::vector<char> loud;
  for (const double db : level_db) loud.push_back(db > threshold_db ? 1 : 0);
  return loud;
}

}  // namespace

void WidenWords(std::vector<Word>& words, double duration_s, double most_s) {
  const std::vector<Word> narrow = words;
  for (size_t i = 0; i < words.size(); ++i) {
    const double before = i == 0 ? narrow[i].start_s : (narrow[i].start_s - narrow[i - 1].end_s) / 2;
    const double after =
        i + 1 == words.size() ? duration_s - narrow[i].end_s : (narrow[i + 1].start_s - narrow[i].end_s) / 2;
    words[i].start_s = std::max(0.0, narrow[i].start_s - std::clamp(before, 0.0, most_s));
    words[i].end_s = std::min(duration_s, narrow[i].end_s + std::clamp(after, 0.0, most_s));
  }
}

void TrimWords(std::vector<Word>& words, std::span<const float> samples, int sample_rate, double margin_s) {
  const std::vector<char> loud = LoudFrames(samples, sample_rate);
  for (Word& word : words) {
    const auto frame = [&](double s) { return std::clamp<int64_t>(std::llround(s / kFrame_s), 0, std::ssize(loud)); };
    const auto begin = loud.begin() + frame(word.start_s), end = loud.begin() + frame(word.end_s);
    const auto first = std::find(begin, end, 1);
    if (first == end) continue;
    auto last = end;
    while (*(last - 1) == 0) --last;
    const double from_s = static_cast<double>(first - loud.begin()) * kFrame_s - margin_s;
    const double to_s = static_cast<double>(last - loud.begin()) * kFrame_s + margin_s;
    word.start_s = std::max(word.start_s, from_s);
    word.end_s = std::min(word.end_s, to_s);
  }
}

}  // namespace earshot
