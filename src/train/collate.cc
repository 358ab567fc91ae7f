#include "src/train/collate.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

// What stands in an encoder frame that no alignment covers, in the loss's own convention.
constexpr int64_t kUnlabelled = -1;

// The token spoken in each encoder frame: 0 (blank) between words, kUnlabelled without an alignment.
void FillLabels(const Example& example, double frame_s, int64_t* labels, int64_t num_labels) {
  if (example.token_spans.empty() && !example.tokens.empty()) return;
  const auto num = static_cast<int64_t>(std::ceil(example.duration_s / frame_s));
  for (int64_t t = 0; t < std::min(num, num_labels); ++t) {
    const double centre_s = (static_cast<double>(t) + 0.5) * frame_s;
    labels[t] = 0;
    for (const TokenSpan& span : example.token_spans) {
      if (centre_s >= span.start_s && centre_s < span.end_s) labels[t] = span.token;
    }
  }
}

}  // namespace

Collated Collate(std::span<const Example* const> examples, const CollateOptions& options) {
  const auto n = static_cast<int64_t>(examples.size());
  EARSHOT_CHECK(n > 0, "a batch of nothing");
  int64_t frames = 0;
  for (const Example* e : examples) frames = std::max(frames, e->num_frames);
  const int64_t encoder_frames = (frames + options.subsampling - 1) / options.subsampling;
  Collated out;
  out.features = torch::zeros({options.num_views * n, frames, options.dim});
  std::vector<int64_t> lens, tokens, token_lens;
  out.targets.frame_labels = torch::full({n, encoder_frames}, kUnlabelled, torch::kInt64);
  for (int64_t i = 0; i < n; ++i) {
    const Example& e = *examples[static_cast<size_t>(i)];
    EARSHOT_CHECK(static_cast<int64_t>(e.features.size()) == e.num_frames * options.dim, "{} values in {} frames of {}",
                  e.features.size(), e.num_frames, options.dim);
    tokens.insert(tokens.end(), e.tokens.begin(), e.tokens.end());
    token_lens.push_back(static_cast<int64_t>(e.tokens.size()));
    FillLabels(e, options.encoder_frame_s, out.targets.frame_labels[i].data_ptr<int64_t>(), encoder_frames);
  }
  for (int view = 0; view < options.num_views; ++view) {
    for (int64_t i = 0; i < n; ++i) {
      const Example& e = *examples[static_cast<size_t>(i)];
      float* place = out.features[view * n + i].data_ptr<float>();
      std::memcpy(place, e.features.data(), e.features.size() * sizeof(float));
      const std::span<float> features(place, e.features.size());
      if (options.cmvn) options.cmvn->Apply(features);
      if (options.spec_augment) {
        Random random = Random::For({options.seed, static_cast<uint64_t>(view), static_cast<uint64_t>(i)});
        SpecAugment(features, e.num_frames, options.dim, *options.spec_augment, random);
      }
      lens.push_back(e.num_frames);
    }
  }
  out.lens = torch::tensor(lens, torch::kInt64);
  out.targets.tokens = torch::tensor(tokens, torch::kInt64);
  out.targets.lens = torch::tensor(token_lens, torch::kInt64);
  return out;
}

}  // namespace earshot
