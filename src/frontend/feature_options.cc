#include "src/frontend/feature_options.h"

#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/frontend/window.h"

namespace earshot {

void FbankOptions::Visit(OptionVisitor& v) {
  v.Field("sample_rate", sample_rate);
  v.Field("frame_length_ms", frame_length_ms);
  v.Field("frame_shift_ms", frame_shift_ms);
  v.Field("num_mel_bins", num_mel_bins);
  v.Field("low_freq", low_freq);
  v.Field("high_freq", high_freq);
  v.Field("sample_scale", sample_scale);
  v.Field("preemphasis", preemphasis);
  v.Enum("preemphasis_scope", preemphasis_scope,
         {{"frame", PreemphasisScope::kFrame}, {"stream", PreemphasisScope::kStream}});
  v.Field("window", window);
  v.Field("remove_dc_offset", remove_dc_offset);
  v.Field("dither", dither);
  v.Field("snip_edges", snip_edges);
  v.Field("center_frames", center_frames);
  v.Enum("mel_scale", mel_scale, {{"htk", MelScale::kHtk}, {"slaney", MelScale::kSlaney}});
  v.Field("log_offset", log_offset);
  v.Field("vtln_low", vtln_low);
  v.Field("vtln_high", vtln_high);
}

void FbankOptions::Validate() const {
  if (sample_rate < 1000 || sample_rate > 768000)
    Throw("fbank.sample_rate: {} Hz, expected 1000 to 768000", sample_rate);
  // Two samples at least; a frame of a second is no longer a frame of speech.
  if (!(frame_length() >= 2 && frame_length_ms <= 1000))
    Throw("fbank.frame_length_ms: {}, expected two samples (of {} Hz) to 1000 ms", frame_length_ms, sample_rate);
  if (!(frame_shift() >= 1 && frame_shift_ms <= 1000))
    Throw("fbank.frame_shift_ms: {}, expected one sample (of {} Hz) to 1000 ms", frame_shift_ms, sample_rate);
  if (num_mel_bins < 3 || num_mel_bins > 1024) Throw("fbank.num_mel_bins: {}, expected 3 to 1024", num_mel_bins);
  const double nyquist = 0.5 * sample_rate;
  if (!(low_freq >= 0 && low_freq < nyquist))
    Throw("fbank.low_freq: {} Hz, expected 0 to below the Nyquist frequency, {} Hz", low_freq, nyquist);
  if (!(high_hz() > low_freq && high_hz() <= nyquist))
    Throw("fbank.high_freq: {} (that is {} Hz), expected above low_freq {} Hz and at most {} Hz", high_freq, high_hz(),
          low_freq, nyquist);
  if (!(sample_scale > 0)) Throw("fbank.sample_scale: {}, expected more than 0", sample_scale);
  if (!(preemphasis >= 0 && preemphasis <= 1)) Throw("fbank.preemphasis: {}, expected 0 to 1", preemphasis);
  if (!(dither >= 0)) Throw("fbank.dither: {}, expected 0 or more", dither);
  if (!(log_offset >= 0)) Throw("fbank.log_offset: {}, expected 0 or more", log_offset);
  if (snip_edges && center_frames) Throw("fbank.snip_edges and fbank.center_frames are both set; choose one");
  WindowFunction(window, 2);  // throws when the name is unknown
}

void MfccOptions::Visit(OptionVisitor& v) {
  v.Field("num_ceps", num_ceps);
  v.Field("cepstral_lifter", cepstral_lifter);
  v.Field("use_energy", use_energy);
  v.Field("energy_floor", energy_floor);
}

void MfccOptions::Validate() const {
  if (num_ceps < 1) Throw("mfcc.num_ceps: {}, expected 1 or more", num_ceps);
  if (!(cepstral_lifter >= 0)) Throw("mfcc.cepstral_lifter: {}, expected 0 or more", cepstral_lifter);
  if (!(energy_floor >= 0)) Throw("mfcc.energy_floor: {}, expected 0 or more", energy_floor);
}

void FeatureOptions::Visit(OptionVisitor& v) {
  v.Enum("type", type, {{"fbank", FeatureType::kFbank}, {"mfcc", FeatureType::kMfcc}});
  v.Group("fbank", fbank);
  v.Group("mfcc", mfcc);
}

void FeatureOptions::Validate() const {
  fbank.Validate();
  if (type != FeatureType::kMfcc) return;
  mfcc.Validate();
  if (mfcc.num_ceps > fbank.num_mel_bins)
    Throw("mfcc.num_ceps: {}, expected at most fbank.num_mel_bins, {}", mfcc.num_ceps, fbank.num_mel_bins);
}

}  // namespace earshot
