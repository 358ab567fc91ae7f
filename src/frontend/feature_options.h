// What features a model is trained on, as it stands in a recipe and in the model's folder.
//
//   features:
//     type: fbank
//     fbank: {num_mel_bins: 80}
//
// The defaults are Kaldi's, but for 80 bins, no dither, frames to the very ends of the wave, and MFCC
// without energy (as Kaldi's recipes have it).
#pragma once

#include <string>

#include "src/base/options.h"

namespace earshot {

enum class MelScale {
  kHtk,     // 1127 ln(1 + f / 700); triangles are straight in mel (Kaldi)
  kSlaney,  // linear below 1 kHz, logarithmic above; triangles are straight in Hz and of area 1 (librosa, NeMo)
};

// kFrame: within each frame (Kaldi); kStream: once over the wave, before frames are cut (NeMo).
enum class PreemphasisScope { kFrame, kStream };

struct FbankOptions {
  // Hz, of the samples that come in.
  int sample_rate = 16000;
  // Rounded down to whole samples; the FFT is the next power of two long.
  float frame_length_ms = 25;
  float frame_shift_ms = 10;
  int num_mel_bins = 80;
  // Hz, the lower edge of the first filter.
  float low_freq = 20;
  // Hz, the upper edge of the last filter. 0 or less: offset from the Nyquist frequency.
  float high_freq = 0;
  // What samples in [-1, 1] are multiplied by first; Kaldi's features are of 16 bit integers.
  float sample_scale = 32768;
  // y[n] = x[n] - preemphasis * x[n - 1]. 0: none.
  float preemphasis = 0.97f;
  PreemphasisScope preemphasis_scope = PreemphasisScope::kFrame;
  // povey (a Hann window to the power 0.85), hann, hamming, blackman, sine, rectangular.
  std::string window = "povey";
  // Take the mean of each frame away.
  bool remove_dc_offset = true;
  // Standard deviation of the noise that is added, in units of scaled samples. It is a fixed function of a
  // sample's index, so that features can be computed again to the bit. 0: none.
  float dither = 0;
  // Only frames that lie wholly in the wave. false: mirrored at the ends, S / shift frames.
  bool snip_edges = false;
  // Frame t is centred on sample t * shift, with zeros beyond the ends: S / shift + 1 frames.
  bool center_frames = false;
  MelScale mel_scale = MelScale::kHtk;
  // Added to the energy in a filter before the log. 0: none, the energy is floored at 2^-23 instead (Kaldi).
  float log_offset = 0;
  // Hz, the ends of the range that a vocal tract length warp bends; vtln_high 0 or less: offset from Nyquist.
  float vtln_low = 100;
  float vtln_high = -500;

  // In samples.
  int frame_length() const { return static_cast<int>(sample_rate * 0.001 * frame_length_ms); }
  int frame_shift() const { return static_cast<int>(sample_rate * 0.001 * frame_shift_ms); }
  // Hz, with offsets from the Nyquist frequency resolved.
  double high_hz() const { return high_freq > 0 ? high_freq : 0.5 * sample_rate + high_freq; }
  double vtln_high_hz() const { return vtln_high > 0 ? vtln_high : 0.5 * sample_rate + vtln_high; }

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// On top of the mel filters of FbankOptions; 23 bins are usual.
struct MfccOptions {
  // Coefficients kept, the one of index 0 among them.
  int num_ceps = 13;
  // L of the lifter 1 + L / 2 sin(pi k / L). 0: none.
  float cepstral_lifter = 22;
  // Put the frame's log energy in place of coefficient 0.
  bool use_energy = false;
  // Of the frame's energy, in units of scaled samples. 0: 2^-23.
  float energy_floor = 0;

  void Visit(OptionVisitor& v);
  void Validate() const;
};

enum class FeatureType { kFbank, kMfcc };

struct FeatureOptions {
  FeatureType type = FeatureType::kFbank;
  // Framing and mel filters, of MFCC too.
  FbankOptions fbank;
  // Only read when type is mfcc.
  MfccOptions mfcc;

  void Visit(OptionVisitor& v);
  void Validate() const;
};

}  // namespace earshot
