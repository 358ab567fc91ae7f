#include "src/data/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

constexpr double kFramesPerSecond = 100;

// Frames of each utterance; one without a duration counts as the median.
std::vector<int64_t> CountFrames(std::span<const double> durations_s) {
  std::vector<double> known;
  std::copy_if(durations_s.begin(), durations_s.end(), std::back_inserter(known), [](double d) { return d >= 0; });
  const auto middle = known.begin() + static_cast<std::ptrdiff_t>(known.size() / 2);
  std::nth_element(known.begin(), middle, known.end());
  const double median = known.empty() ? 0 : *middle;
  std::vector<int64_t> frames(durations_s.size());
  std::transform(durations_s.begin(), durations_s.end(), frames.begin(), [median](double duration_s) {
    return std::max<int64_t>(1, std::lround((duration_s >= 0 ? duration_s : median) * kFramesPerSecond));
  });
  return frames;
}

}  // namespace

void SamplerOptions::Visit(OptionVisitor& visitor) {
  visitor.Field("num_buckets", num_buckets);
  visitor.Field("max_frames", max_frames);
  visitor.Field("max_utterances", max_utterances);
  visitor.Field("shuffle", shuffle);
  visitor.Field("seed", seed);
}

void SamplerOptions::Validate() const {
  if (num_buckets < 1) Throw("num_buckets is {}, expected at least 1", num_buckets);
  if (max_frames < 1) Throw("max_frames is {}, expected at least 1", max_frames);
  if (max_utterances < 0) Throw("max_utterances is {}, expected 0 (no limit) or more", max_utterances);
}

Sampler::Sampler(std::span<const double> durations_s, const SamplerOptions& options, SamplerShard shard)
    : options_(options), shard_(shard), num_utterances_(static_cast<int64_t>(durations_s.size())) {
  options_.Validate();
  EARSHOT_CHECK(shard.num_ranks >= 1 && shard.rank >= 0 && shard.rank < shard.num_ranks, "rank {} of {}", shard.rank,
                shard.num_ranks);
  if (durations_s.empty()) Throw("no utterances to sample from");
  const std::vector<int64_t> frames = CountFrames(durations_s);
  // Longest first, so that what does not fit into memory shows at once when nothing is shuffled.
  std::vector<int64_t> order(durations_s.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&frames](int64_t a, int64_t b) {
    return frames[static_cast<size_t>(a)] > frames[static_cast<size_t>(b)];
  });

  const int64_t num_buckets = std::min<int64_t>(options.num_buckets, num_utterances_);
  int64_t all_batches = 0;
  for (int64_t b = 0; b < num_buckets; ++b) {
    Bucket bucket;
    bucket.utterances.assign(order.begin() + b * num_utterances_ / num_buckets,
                             order.begin() + (b + 1) * num_utterances_ / num_buckets);
    // Sized by the longest of the bucket: so the number of batches is the same in every epoch.
    int64_t size = std::max<int64_t>(1, options.max_frames / frames[static_cast<size_t>(bucket.utterances[0])]);
    if (options.max_utterances > 0) size = std::min<int64_t>(size, options.max_utterances);
    bucket.num_batches = (static_cast<int64_t>(bucket.utterances.size()) + size - 1) / size;
    all_batches += bucket.num_batches;
    buckets_.push_back(std::move(bucket));
  }
  num_batches_ = all_batches / shard.num_ranks;
  if (num_batches_ == 0)
    Throw("{} batches for {} processes; lower max_frames or max_utterances", all_batches, shard.num_ranks);
}

std::vector<std::vector<int64_t>> Sampler::Batches(int64_t epoch) const {
  const auto seed = static_cast<uint64_t>(options_.seed);
  std::vector<std::vector<int64_t>> batches;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    std::vector<int64_t> utterances = buckets_[b].utterances;
    if (options_.shuffle) Random::For({seed, static_cast<uint64_t>(epoch), b}).Shuffle(utterances);
    // Dealt out evenly: no batch of a few leftovers.
    const auto count = static_cast<int64_t>(utterances.size());
    for (int64_t i = 0; i < buckets_[b].num_batches; ++i) {
      batches.emplace_back(utterances.begin() + i * count / buckets_[b].num_batches,
                           utterances.begin() + (i + 1) * count / buckets_[b].num_batches);
    }
  }
  if (options_.shuffle) Random::For({seed, static_cast<uint64_t>(epoch), buckets_.size()}).Shuffle(batches);
  if (shard_.num_ranks == 1) return batches;
  std::vector<std::vector<int64_t>> mine;
  for (int64_t i = 0; i < num_batches_; ++i)
    mine.push_back(std::move(batches[static_cast<size_t>(i * shard_.num_ranks + shard_.rank)]));
  return mine;
}

}  // namespace earshot
