#include "src/data/example.h"

#include <algorithm>
#include <optional>

#include "src/base/error.h"
#include "src/data/audio_cache.h"

namespace earshot {
namespace {

bool Augments(const WaveAugmentOptions& options) {
  return !options.speed_factors.empty() || !options.speed_range.empty() || !options.gain_db.empty() ||
         options.noise_probability > 0 || options.rir_probability > 0;
}

}  // namespace

void ExampleOptions::Visit(OptionVisitor& visitor) {
  visitor.Field("cache_mb", cache_mb);
  visitor.Field("max_duration_s", max_duration_s);
  visitor.Field("allow_empty_text", allow_empty_text);
  visitor.Field("vtln_range", vtln_range);
  visitor.Group("wave", wave);
  visitor.Group("splice", splice);
}

void ExampleOptions::Validate() const {
  if (!(cache_mb >= 0)) Throw("cache_mb is {}, expected 0 or more", cache_mb);
  if (!(max_duration_s >= 0)) Throw("max_duration_s is {}, expected 0 (no limit) or more", max_duration_s);
  const bool pair = vtln_range.size() == 2 && vtln_range[0] > 0 && vtln_range[0] <= vtln_range[1];
  if (!vtln_range.empty() && !pair)
    Throw("vtln_range has {} values, expected the lowest and the highest warp, such as [0.9, 1.1]", vtln_range.size());
  wave.Validate();
  splice.Validate();
}

struct ExampleMaker::Shared {
  ExampleOptions options;
  ExampleParts parts;
  int sample_rate;
  std::shared_ptr<AudioCache> cache;
  std::optional<WaveAugment> wave;
  std::optional<Splicer> splicer;

  // The tokens of aligned words, each with an even share of its word's time; `stretch` turns times of the
  // recording into those of the augmented samples. Empty when the words are not the example's tokens.
  std::vector<TokenSpan> TokenSpans(const std::vector<AlignedWord>& words, double stretch,
                                    const Example& example) const {
    std::vector<TokenSpan> spans;
    for (const AlignedWord& word : words) {
      const std::vector<int> tokens = parts.tokenizer->Encode(word.text);
      const double share_s = (word.end_s - word.start_s) / static_cast<double>(std::max<size_t>(1, tokens.size()));
      for (size_t i = 0; i < tokens.size(); ++i) {
        const double start_s = word.start_s + static_cast<double>(i) * share_s;
        spans.push_back({tokens[i], start_s * stretch, (start_s + share_s) * stretch});
      }
    }
    const auto same = [](const TokenSpan& span, int token) { return span.token == token; };
    if (!std::equal(spans.begin(), spans.end(), example.tokens.begin(), example.tokens.end(), same)) spans.clear();
    return spans;
  }

  void CheckText(const Utterance& utterance, const Example& example) const {
    if (example.tokens.empty() && !options.allow_empty_text) Throw("{}: no text to learn", utterance.audio_path);
  }

  void CheckDuration(const Utterance& utterance, double duration_s) const {
    if (options.max_duration_s > 0 && duration_s > options.max_duration_s)
      Throw("{}: {:.2f} s long, max_duration_s allows {:.2f} s", utterance.audio_path, duration_s,
            options.max_duration_s);
  }

  // Fills in what follows from the samples; false when the encoder's output cannot hold the tokens.
  bool ComputeFeatures(const Utterance& utterance, std::span<const float> samples, float vtln_warp,
                       Example& example) const {
    const FeatureExtractor& extractor = *parts.features;
    if (static_cast<int64_t>(samples.size()) < extractor.layout().frame_length)
      Throw("{}: {} samples, fewer than one frame of {}", utterance.audio_path, samples.size(),
            extractor.layout().frame_length);
    example.num_frames = extractor.NumFrames(static_cast<int64_t>(samples.size()));
    example.duration_s = static_cast<double>(samples.size()) / sample_rate;
    if (parts.encoder_frames(example.num_frames) < CtcFramesNeeded(example.tokens)) return false;
    example.features = extractor.Compute(samples, vtln_warp);
    return true;
  }
};

ExampleMaker::ExampleMaker(const ExampleOptions& options, ExampleParts parts,
                           const std::vector<Utterance>& utterances) {
  options.Validate();
  EARSHOT_CHECK(parts.features && parts.tokenizer && parts.encoder_frames, "a part is missing");
  auto shared = std::make_shared<Shared>();
  shared->options = options;
  shared->parts = std::move(parts);
  shared->sample_rate = shared->parts.features->sample_rate();
  shared->cache = std::make_shared<AudioCache>(shared->sample_rate, options.cache_mb);
  if (Augments(options.wave)) shared->wave.emplace(options.wave);
  if (!options.splice.alignments.empty() || options.splice.concat_probability > 0) {
    shared->splicer.emplace(options.splice, utterances, shared->sample_rate,
                            [cache = shared->cache](const Utterance& utterance) { return cache->Read(utterance); });
  }
  shared_ = std::move(shared);
}

Example ExampleMaker::operator()(const Utterance& utterance, Random& random) const {
  const Shared& shared = *shared_;
  Example example;
  example.id = utterance.id;
  example.text = utterance.text;
  std::vector<float> samples;
  std::vector<AlignedWord> words;
  if (shared.splicer) {
    if (const std::vector<AlignedWord>* aligned = shared.splicer->Words(utterance.id)) words = *aligned;
    if (std::optional<SplicedAudio> spliced = shared.splicer->Draw(utterance, random)) {
      samples = std::move(spliced->samples);
      example.text = std::move(spliced->text);
      words = std::move(spliced->words);
    }
  }
  if (samples.empty()) samples = shared.cache->Read(utterance);
  shared.CheckDuration(utterance, static_cast<double>(samples.size()) / shared.sample_rate);
  example.tokens = shared.parts.tokenizer->Encode(example.text);
  shared.CheckText(utterance, example);

  std::vector<float> augmented = samples;
  if (shared.wave) shared.wave->Apply(augmented, shared.sample_rate, random);
  const double stretch =
      static_cast<double>(augmented.size()) / static_cast<double>(std::max<size_t>(1, samples.size()));
  example.token_spans = shared.TokenSpans(words, stretch, example);
  const std::vector<double>& vtln = shared.options.vtln_range;
  const auto warp = static_cast<float>(vtln.empty() ? 1 : random.Uniform(vtln[0], vtln[1]));
  if (shared.ComputeFeatures(utterance, augmented, warp, example)) return example;
  // Only too fast, perhaps: as it was spoken it may fit.
  example.token_spans = shared.TokenSpans(words, 1, example);
  if (shared.wave && shared.ComputeFeatures(utterance, samples, warp, example)) return example;
  Throw("{}: {} tokens need {} encoder frames, {:.2f} s give {}; is the text that of another recording?",
        utterance.audio_path, example.tokens.size(), CtcFramesNeeded(example.tokens), example.duration_s,
        shared.parts.encoder_frames(example.num_frames));
}

int64_t CtcFramesNeeded(std::span<const int> tokens) {
  auto frames = static_cast<int64_t>(tokens.size());
  for (size_t i = 1; i < tokens.size(); ++i) frames += tokens[i] == tokens[i - 1];
  return frames;
}

}  // namespace earshot
