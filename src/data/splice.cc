#include "src/data/splice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/data/line_reader.h"
#include "src/text/wer.h"

namespace earshot {
namespace {

// A word of the same speaker is looked for this often before any other will do.
constexpr int kSpeakerTries = 8;
// Energy is compared over this much on either side of a cut, or more where the fade is longer.
constexpr double kQuietSeconds = 0.005;
// A piece keeps no more silence than this before its first word, and behind its last.
constexpr double kMostGapSeconds = 0.3;
// Pieces are made louder or softer by no more than this: 12 dB.
constexpr double kMaxGain = 4;

double MeanSquare(const std::vector<float>& samples) {
  double sum = 0;
  for (const float x : samples) sum += static_cast<double>(x) * x;
  return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

// Where a cut may lie, and where it was aligned; samples.
struct CutRange {
  int64_t from;
  int64_t to;
  int64_t wanted;
};

// The sample of the range with the least energy from `half` before it to `half` behind it; the one nearest to wanted
// among equals.
int64_t QuietestPoint(const std::vector<float>& samples, const CutRange& range, int64_t half, int sample_rate) {
  const auto [from, to, wanted] = range;
  const auto size = static_cast<int64_t>(samples.size());
  const int64_t step = std::max(1, sample_rate / 1000);
  int64_t best = std::clamp<int64_t>(wanted, 0, size);
  double least = std::numeric_limits<double>::infinity();
  for (int64_t at = std::max<int64_t>(0, from); at < std::min(to, size); at += step) {
    double energy = 0;
    for (int64_t i = std::max<int64_t>(0, at - half); i < std::min(size, at + half); ++i)
      energy += static_cast<double>(samples[static_cast<size_t>(i)]) * samples[static_cast<size_t>(i)];
    if (energy < least || (energy == least && std::abs(at - wanted) < std::abs(best - wanted))) {
      least = energy;
      best = at;
    }
  }
  return best;
}

}  // namespace

void SpliceOptions::Visit(OptionVisitor& visitor) {
  visitor.Field("alignments", alignments);
  visitor.Field("probability", probability);
  visitor.Field("transcript_share", transcript_share);
  visitor.Field("min_words", min_words);
  visitor.Field("max_words", max_words);
  visitor.Field("max_span_words", max_span_words);
  visitor.Field("balance", balance);
  visitor.Field("same_speaker_probability", same_speaker_probability);
  visitor.Field("search_ms", search_ms);
  visitor.Field("crossfade_ms", crossfade_ms);
  visitor.Field("concat_probability", concat_probability);
  visitor.Field("concat_max_utterances", concat_max_utterances);
  visitor.Field("match_level", match_level);
  visitor.Field("max_duration_s", max_duration_s);
}

void SpliceOptions::Validate() const {
  for (const auto& [key, share] : {std::pair{"probability", probability},
                                   {"transcript_share", transcript_share},
                                   {"balance", balance},
                                   {"same_speaker_probability", same_speaker_probability},
                                   {"concat_probability", concat_probability}}) {
    if (!(share >= 0 && share <= 1)) Throw("{} is {}, expected 0 to 1", key, share);
  }
  if (probability + concat_probability > 1)
    Throw("probability {} and concat_probability {} exceed 1 together", probability, concat_probability);
  if (probability > 0 && alignments.empty())
    Throw("probability is {}, but alignments is empty; name the file of word alignments", probability);
  if (min_words < 1 || (max_words != 0 && max_words < min_words))
    Throw("min_words is {}, max_words {}, expected 1 <= min_words <= max_words, or a max_words of 0", min_words,
          max_words);
  if (max_span_words < 1) Throw("max_span_words is {}, expected at least 1", max_span_words);
  if (!(search_ms >= 0)) Throw("search_ms is {}, expected 0 or more", search_ms);
  if (!(crossfade_ms >= 0)) Throw("crossfade_ms is {}, expected 0 or more", crossfade_ms);
  if (concat_max_utterances < 2) Throw("concat_max_utterances is {}, expected at least 2", concat_max_utterances);
  if (!(max_duration_s > 0)) Throw("max_duration_s is {}, expected more than 0", max_duration_s);
}

void Splicer::Pool::Add(Place place, double weight) {
  places.push_back(place);
  ends.push_back((ends.empty() ? 0 : ends.back()) + weight);
}

Splicer::Place Splicer::Pool::Pick(Random& random) const {
  const auto found = std::upper_bound(ends.begin(), ends.end(), random.Uniform() * ends.back());
  return places[std::min(static_cast<size_t>(found - ends.begin()), places.size() - 1)];
}

const Splicer::Pool& Splicer::Pools::Of(const std::string& speaker, bool same_speaker) const {
  const auto found = of_speaker.find(speaker);
  return same_speaker && !speaker.empty() && found != of_speaker.end() ? found->second : all;
}

Splicer::Splicer(const SpliceOptions& options, std::vector<Utterance> utterances, int sample_rate,
                 ReadSamples read_samples)
    : options_(options),
      utterances_(std::move(utterances)),
      sample_rate_(sample_rate),
      read_samples_(std::move(read_samples)),
      words_(utterances_.size()) {
  options_.Validate();
  if (!options_.alignments.empty()) LoadAlignments();
  std::unordered_map<std::string, double> spoken;
  for (const auto& words : words_) {
    for (const AlignedWord& word : words) ++spoken[word.text];
  }
  for (size_t u = 0; u < utterances_.size(); ++u) {
    if (!words_[u].empty()) aligned_index_.emplace(utterances_[u].id, u);
    for (size_t w = 0; w < words_[u].size(); ++w) {
      const double weight = std::pow(spoken[words_[u][w].text], -options_.balance);
      aligned_.all.Add({u, w}, weight);
      aligned_.of_speaker[utterances_[u].speaker].Add({u, w}, weight);
    }
    whole_.all.Add({u, 0}, 1);
    whole_.of_speaker[utterances_[u].speaker].Add({u, 0}, 1);
    if (options_.transcript_share == 0) continue;
    for (size_t w = 0; w < words_[u].size(); ++w) places_[words_[u][w].text].push_back({u, w, 1});
  }
}

void Splicer::LoadAlignments() {
  std::unordered_map<std::string, size_t> index;
  for (size_t u = 0; u < utterances_.size(); ++u) index.emplace(utterances_[u].id, u);
  size_t known = 0;
  LineReader reader(options_.alignments);
  std::string line;
  while (reader.Next(line)) {
    if (line.empty()) continue;
    const std::string where = reader.Where();
    try {
      const auto json = nlohmann::json::parse(line);
      const auto found = index.find(json.at("id").get<std::string>());
      // Those of other utterances, of the dev set say, must not be drawn.
      if (found == index.end()) continue;
      ++known;
      std::vector<AlignedWord> words;
      for (const auto& item : json.at("words")) {
        const AlignedWord word{item.at("word"), item.at("start"), item.at("end")};
        const double last_s = words.empty() ? 0 : words.back().end_s;
        if (!(word.start_s >= last_s && word.end_s > word.start_s))
          Throw("{}: '{}' from {} to {} s, expected a start at {} s or later and an end after it", where, word.text,
                word.start_s, word.end_s, last_s);
        words.push_back(word);
      }
      words_[found->second] = std::move(words);
    } catch (const nlohmann::json::exception& e) {
      Throw("{}: {}; expected {{\"id\": ..., \"words\": [{{\"word\", \"start\", \"end\"}}, ...]}}", where, e.what());
    }
  }
  if (known == 0)
    Throw("{}: none of its {} lines is of one of the {} utterances; were the alignments made from another manifest?",
          options_.alignments, reader.line_number(), utterances_.size());
}

const std::vector<AlignedWord>* Splicer::Words(const std::string& utterance_id) const {
  const auto found = aligned_index_.find(utterance_id);
  return found == aligned_index_.end() ? nullptr : &words_[found->second];
}

std::optional<SplicedAudio> Splicer::Draw(const Utterance& utterance, Random& random) const {
  const double draw = random.Uniform();
  if (draw < options_.concat_probability) return DrawUtterances(utterance, random);
  if (draw < options_.concat_probability + options_.probability) return DrawWords(utterance, random);
  return std::nullopt;
}

std::vector<Splicer::Span> Splicer::RandomSpans(const Utterance& utterance, Random& random) const {
  const Pool& pool = aligned_.Of(utterance.speaker, random.Chance(options_.same_speaker_probability));
  std::vector<Span> spans;
  if (pool.places.empty()) return spans;
  const auto spoken = static_cast<int64_t>(SplitWords(utterance.text).size());
  const bool free = options_.max_words > 0;
  const int64_t low = free ? options_.min_words : std::max<int64_t>(options_.min_words, spoken - 1);
  const int64_t high = free ? options_.max_words : std::max(low, spoken + 1);
  auto left = static_cast<size_t>(low + random.Index(high - low + 1));
  while (left > 0) {
    const auto [u, first] = pool.Pick(random);
    const size_t most = std::min({left, words_[u].size() - first, static_cast<size_t>(options_.max_span_words)});
    const auto count = static_cast<size_t>(1 + random.Index(static_cast<int64_t>(most)));
    spans.push_back({u, first, count});
    left -= count;
  }
  return spans;
}

// Each word as someone else, or the same speaker elsewhere, says it; empty when one is said nowhere.
std::vector<Splicer::Span> Splicer::TranscriptSpans(const Utterance& utterance, Random& random) const {
  const bool same_speaker = !utterance.speaker.empty() && random.Chance(options_.same_speaker_probability);
  std::vector<Span> spans;
  for (const std::string& word : SplitWords(utterance.text)) {
    const auto found = places_.find(word);
    if (found == places_.end()) return {};
    const std::vector<Span>& places = found->second;
    Span place{};
    for (int i = 0; i < kSpeakerTries; ++i) {
      place = places[static_cast<size_t>(random.Index(static_cast<int64_t>(places.size())))];
      if (!same_speaker || utterances_[place.utterance].speaker == utterance.speaker) break;
    }
    spans.push_back(place);
  }
  return spans;
}

// samples: all of the span's utterance. The boundaries lie somewhere in the gap to the neighbouring word, and may move
// a little into the words themselves, whose aligned times are rough; never past the middle of a word.
std::pair<int64_t, int64_t> Splicer::Cut(const std::vector<float>& samples, const Span& span, Random& random) const {
  const std::vector<AlignedWord>& words = words_[span.utterance];
  const auto middle_s = [&words](size_t w) { return (words[w].start_s + words[w].end_s) / 2; };
  const auto at = [this](double seconds) { return static_cast<int64_t>(std::lround(seconds * sample_rate_)); };
  const size_t last = span.first + span.count - 1;
  const double search_s = options_.search_ms / 1000;

  const double duration_s = static_cast<double>(samples.size()) / sample_rate_;
  const double gap_before_s = words[span.first].start_s - (span.first > 0 ? words[span.first - 1].end_s : 0);
  const double gap_behind_s = (last + 1 < words.size() ? words[last + 1].start_s : duration_s) - words[last].end_s;
  const double start_s = words[span.first].start_s - random.Uniform(0, std::clamp(gap_before_s, 0.0, kMostGapSeconds));
  const double end_s = words[last].end_s + random.Uniform(0, std::clamp(gap_behind_s, 0.0, kMostGapSeconds));
  const double earliest_s = span.first > 0 ? middle_s(span.first - 1) : 0;
  const double latest_s = last + 1 < words.size() ? middle_s(last + 1) : duration_s;
  // As wide as the fade at least: so that what fades is quiet, not a part of the word.
  const auto half = static_cast<int64_t>(std::max(kQuietSeconds, options_.crossfade_ms / 1000) * sample_rate_);
  const CutRange start{at(std::max(earliest_s, start_s - search_s)),
                       at(std::min(middle_s(span.first), start_s + search_s / 2)), at(start_s)};
  const CutRange stop{at(std::max(middle_s(last), end_s - search_s / 2)), at(std::min(latest_s, end_s + search_s)),
                      at(end_s)};
  const int64_t begin = QuietestPoint(samples, start, half, sample_rate_);
  const int64_t end = QuietestPoint(samples, stop, half, sample_rate_);
  return {begin, std::max(begin, end)};
}

// level: mean square of the recording that the piece is from. Returns the sample that the piece begins at.
int64_t Splicer::Append(std::vector<float> piece, double level, SplicedAudio& spliced, double& first_level) const {
  if (first_level == 0) first_level = level;
  if (options_.match_level && level > 0 && first_level > 0) {
    const auto gain = static_cast<float>(std::clamp(std::sqrt(first_level / level), 1 / kMaxGain, kMaxGain));
    for (float& x : piece) x *= gain;
  }
  std::vector<float>& samples = spliced.samples;
  const auto fade =
      std::min({static_cast<size_t>(options_.crossfade_ms / 1000 * sample_rate_), samples.size(), piece.size()});
  float* overlap = samples.data() + (samples.size() - fade);
  for (size_t i = 0; i < fade; ++i) {
    const float share = (static_cast<float>(i) + 0.5F) / static_cast<float>(fade);
    overlap[i] = (1 - share) * overlap[i] + share * piece[i];
  }
  const auto begin = static_cast<int64_t>(samples.size() - fade);
  samples.insert(samples.end(), piece.begin() + static_cast<std::ptrdiff_t>(fade), piece.end());
  return begin;
}

std::optional<SplicedAudio> Splicer::DrawWords(const Utterance& utterance, Random& random) const {
  const bool transcript = random.Chance(options_.transcript_share);
  const std::vector<Span> spans = transcript ? TranscriptSpans(utterance, random) : RandomSpans(utterance, random);
  SplicedAudio spliced;
  double first_level = 0;
  for (const Span& span : spans) {
    const std::vector<float> samples = read_samples_(utterances_[span.utterance]);
    const auto [begin, end] = Cut(samples, span, random);
    std::vector<float> piece(samples.begin() + begin, samples.begin() + end);
    const double longer_s = static_cast<double>(spliced.samples.size() + piece.size()) / sample_rate_;
    if (piece.empty() || longer_s > options_.max_duration_s) {
      // A transcript is kept whole or not at all; a new text may end here.
      if (transcript) return std::nullopt;
      continue;
    }
    const int64_t place = Append(std::move(piece), MeanSquare(samples), spliced, first_level);
    const auto moved_s = [&, from = begin, to = end](double s) {
      return std::clamp(s * sample_rate_ - static_cast<double>(from), 0.0, static_cast<double>(to - from)) /
                 sample_rate_ +
             static_cast<double>(place) / sample_rate_;
    };
    for (size_t w = span.first; w < span.first + span.count; ++w) {
      const AlignedWord& word = words_[span.utterance][w];
      spliced.text += (spliced.text.empty() ? "" : " ") + word.text;
      spliced.words.push_back({word.text, moved_s(word.start_s), moved_s(word.end_s)});
    }
  }
  if (spliced.samples.empty()) return std::nullopt;
  return spliced;
}

std::optional<SplicedAudio> Splicer::DrawUtterances(const Utterance& utterance, Random& random) const {
  const Pool& pool = whole_.Of(utterance.speaker, random.Chance(options_.same_speaker_probability));
  if (pool.places.empty()) return std::nullopt;
  SplicedAudio spliced;
  double first_level = 0;
  int joined = 0;
  const auto add = [&](const Utterance& next) {
    std::vector<float> samples = read_samples_(next);
    if (static_cast<double>(spliced.samples.size() + samples.size()) / sample_rate_ > options_.max_duration_s) return;
    const double level = MeanSquare(samples);
    Append(std::move(samples), level, spliced, first_level);
    spliced.text += (spliced.text.empty() || next.text.empty() ? "" : " ") + next.text;
    ++joined;
  };
  add(utterance);
  for (int64_t others = 1 + random.Index(options_.concat_max_utterances - 1); others > 0 && joined > 0; --others)
    add(utterances_[pool.Pick(random).utterance]);
  if (joined < 2) return std::nullopt;
  return spliced;
}

}  // namespace earshot
