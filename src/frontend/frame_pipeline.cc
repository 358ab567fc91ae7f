#include "src/frontend/frame_pipeline.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/frontend/window.h"

namespace earshot {
namespace {

FrameLayout MakeLayout(const FbankOptions& options) {
  FrameLayout layout;
  if (options.snip_edges) layout.edges = FrameEdges::kSnip;
  if (options.center_frames) layout.edges = FrameEdges::kCenter;
  layout.frame_length = options.frame_length();
  layout.frame_shift = options.frame_shift();
  if (options.preemphasis_scope == PreemphasisScope::kStream && options.preemphasis != 0) layout.history = 1;
  return layout;
}

MelFilterView View(const MelFilters& filters) {
  return {filters.first_bins.data(), filters.offsets.data(), filters.weights.data()};
}

}  // namespace

FramePipeline::FramePipeline(const FbankOptions& options, FrameTransform transform)
    : options_(options), transform_(std::move(transform)) {
  options_.Validate();
  layout_ = MakeLayout(options_);
  fft_size_ = std::max(8, static_cast<int>(std::bit_ceil(static_cast<unsigned>(options_.frame_length()))));
  window_ = WindowFunction(options_.window, options_.frame_length());
  for (float& weight : window_) weight *= options_.sample_scale;
  mel_filters_ = MakeMelFilters(options_, fft_size_, 1.0f);
  const bool transformed = !transform_.matrix.empty();
  dim_ = transformed ? static_cast<int>(transform_.matrix.size()) / options_.num_mel_bins : options_.num_mel_bins;
  FrameKernelSpec spec;
  spec.frame_length = options_.frame_length();
  spec.fft_size = fft_size_;
  spec.window = window_.data();
  spec.preemphasis = options_.preemphasis_scope == PreemphasisScope::kFrame ? options_.preemphasis : 0;
  spec.remove_dc_offset = options_.remove_dc_offset;
  spec.num_mel_bins = options_.num_mel_bins;
  spec.log_offset = options_.log_offset;
  spec.log_floor = options_.log_offset > 0 ? std::max(options_.log_offset, std::numeric_limits<float>::min())
                                           : std::numeric_limits<float>::epsilon();
  spec.transform = transformed ? transform_.matrix.data() : nullptr;
  spec.dim = dim_;
  spec.use_energy = transform_.use_energy;
  spec.energy_scale = options_.sample_scale * options_.sample_scale;
  spec.energy_floor = std::max(transform_.energy_floor, std::numeric_limits<float>::epsilon());
  kernel_.reset(MakeFrameKernel(ChooseSimdLevel(), spec));
}

std::vector<float> FramePipeline::Prepare(const SampleRange& range) const {
  std::vector<float> samples(range.samples.begin(), range.samples.end());
  if (options_.dither > 0) {
    const double deviation = options_.dither / options_.sample_scale;
    for (size_t i = 0; i < samples.size(); ++i) {
      Random random = Random::For({static_cast<uint64_t>(range.first_sample) + i});
      samples[i] += static_cast<float>(deviation * random.Normal());
    }
  }
  // From the last to the first, as each needs the one before it as it came. The very first of a stream has none.
  for (size_t i = layout_.history > 0 ? samples.size() : 0; i > 1; --i)
    samples[i - 1] -= options_.preemphasis * samples[i - 2];
  return samples;
}

void FramePipeline::ComputeFrames(const SampleRange& range, int64_t first_frame, std::span<float> out,
                                  float vtln_warp) const {
  const int64_t num_frames = static_cast<int64_t>(out.size()) / dim_;
  EARSHOT_CHECK(num_frames * dim_ == static_cast<int64_t>(out.size()), "{} values for frames of {}", out.size(), dim_);
  if (num_frames == 0) return;
  EARSHOT_CHECK(range.first_sample <= layout_.FirstSampleNeeded(first_frame), "frame {} needs sample {}, got from {}",
                first_frame, layout_.FirstSampleNeeded(first_frame), range.first_sample);
  std::vector<float> prepared;
  std::span<const float> samples = range.samples;
  if (options_.dither > 0 || layout_.history > 0) {
    prepared = Prepare(range);
    samples = prepared;
  }
  MelFilters warped;
  if (vtln_warp != 1.0f) warped = MakeMelFilters(options_, fft_size_, vtln_warp);
  const MelFilterView mel = View(vtln_warp != 1.0f ? warped : mel_filters_);

  const int64_t begin = range.first_sample, end = begin + static_cast<int64_t>(samples.size());
  const int64_t length = layout_.frame_length, shift = layout_.frame_shift;
  const auto inside = [&](int64_t frame) {
    const int64_t start = layout_.FrameStart(frame);
    return start >= begin && start + length <= end;
  };
  // Runs of frames that all lie inside, or all do not.
  std::vector<float> copy;
  for (int64_t frame = first_frame, next = frame; frame < first_frame + num_frames; frame = next) {
    const bool run_inside = inside(frame);
    while (next < first_frame + num_frames && inside(next) == run_inside) ++next;
    const int64_t start = layout_.FrameStart(frame);
    const float* source = samples.data() + (start - begin);
    if (!run_inside) {
      copy.assign(static_cast<size_t>((next - frame - 1) * shift + length), 0.0f);
      for (size_t i = 0; i < copy.size(); ++i) {
        const int64_t from = layout_.SourceSample(start + static_cast<int64_t>(i), range.num_samples);
        if (from < 0) continue;
        EARSHOT_CHECK(from >= begin && from < end, "frame {} needs sample {} of {} to {}", frame, from, begin, end);
        copy[i] = samples[static_cast<size_t>(from - begin)];
      }
      source = copy.data();
    }
    kernel_->Compute(source, shift, next - frame, mel, out.data() + (frame - first_frame) * dim_);
  }
}

}  // namespace earshot
