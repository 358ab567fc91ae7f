#include "src/frontend/mel_filters.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace earshot {
namespace {

// Slaney, Auditory Toolbox, 1998: 200/3 Hz a mel up to 1 kHz, then a factor of 6.4 in 27 mel.
constexpr double kSlaneyHzPerMel = 200.0 / 3.0;
constexpr double kSlaneyBendHz = 1000.0;
constexpr double kSlaneyBendMel = kSlaneyBendHz / kSlaneyHzPerMel;
const double kSlaneyLogStep = std::log(6.4) / 27.0;

double HzToMel(MelScale scale, double hz) {
  if (scale == MelScale::kHtk) return 1127.0 * std::log1p(hz / 700.0);
  return hz < kSlaneyBendHz ? hz / kSlaneyHzPerMel : kSlaneyBendMel + std::log(hz / kSlaneyBendHz) / kSlaneyLogStep;
}

double MelToHz(MelScale scale, double mel) {
  if (scale == MelScale::kHtk) return 700.0 * std::expm1(mel / 1127.0);
  return mel < kSlaneyBendMel ? mel * kSlaneyHzPerMel
                              : kSlaneyBendHz * std::exp((mel - kSlaneyBendMel) * kSlaneyLogStep);
}

// The warp: f / warp between two knees, and straight lines from there to the ends of the range, which stay.
class FrequencyWarp {
 public:
  FrequencyWarp(const FbankOptions& options, double warp)
      : warp_(warp),
        low_(options.low_freq),
        high_(options.high_hz()),
        low_knee_(options.vtln_low * std::max(1.0, warp)),
        high_knee_(options.vtln_high_hz() * std::min(1.0, warp)) {
    if (warp == 1.0) return;
    if (!(warp > 0.5 && warp < 2)) Throw("VTLN warp {}, expected between 0.5 and 2", warp);
    if (!(low_ < low_knee_ && low_knee_ < high_knee_ && high_knee_ < high_))
      Throw(
          "VTLN warp {}: fbank.low_freq, vtln_low, vtln_high and high_freq come to {} < {} < {} < {} Hz, not in order",
          warp, low_, low_knee_, high_knee_, high_);
  }

  double operator()(double hz) const {
    if (warp_ == 1.0 || hz <= low_ || hz >= high_) return hz;
    if (hz < low_knee_) return low_ + (hz - low_) * (low_knee_ / warp_ - low_) / (low_knee_ - low_);
    if (hz < high_knee_) return hz / warp_;
    return high_ - (high_ - hz) * (high_ - high_knee_ / warp_) / (high_ - high_knee_);
  }

 private:
  double warp_, low_, high_, low_knee_, high_knee_;
};

// The triangle over left, center, right, at x.
double Triangle(double left, double center, double right, double x) {
  if (x <= left || x >= right) return 0;
  return x <= center ? (x - left) / (center - left) : (right - x) / (right - center);
}

}  // namespace

MelFilters MakeMelFilters(const FbankOptions& options, int fft_size, float vtln_warp) {
  const MelScale scale = options.mel_scale;
  const FrequencyWarp warp(options, vtln_warp);
  const double low = HzToMel(scale, options.low_freq);
  const double step = (HzToMel(scale, options.high_hz()) - low) / (options.num_mel_bins + 1);
  const auto edge_hz = [&](int edge) { return warp(MelToHz(scale, low + edge * step)); };

  MelFilters filters;
  filters.offsets.push_back(0);
  for (int m = 0; m < options.num_mel_bins; ++m) {
    // Kaldi's triangles are straight over mel, librosa's over Hz with area 1.
    const bool over_mel = scale == MelScale::kHtk;
    const auto position = [&](double hz) { return over_mel ? HzToMel(scale, hz) : hz; };
    const double left = position(edge_hz(m)), center = position(edge_hz(m + 1)), right = position(edge_hz(m + 2));
    const double height = over_mel ? 1.0 : 2.0 / (right - left);
    int first = 0;
    for (int bin = 0; bin < fft_size / 2; ++bin) {
      const double hz = static_cast<double>(options.sample_rate) * bin / fft_size;
      const double weight = height * Triangle(left, center, right, position(hz));
      if (weight <= 0) continue;
      if (filters.weights.size() == static_cast<size_t>(filters.offsets.back())) first = bin;
      filters.weights.push_back(static_cast<float>(weight));
    }
    // librosa lets a low filter fall between two FFT bins; models were trained so. Kaldi does not.
    if (over_mel && filters.weights.size() == static_cast<size_t>(filters.offsets.back()))
      Throw(
          "fbank.num_mel_bins: {} filters are too many for an FFT of {}: no bin lies in filter {} ({:.0f} to {:.0f} "
          "Hz)",
          options.num_mel_bins, fft_size, m, edge_hz(m), edge_hz(m + 2));
    filters.first_bins.push_back(first);
    filters.offsets.push_back(static_cast<int>(filters.weights.size()));
  }
  return filters;
}

}  // namespace earshot
