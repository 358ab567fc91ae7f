// The other side of `tools/bench frontend`: kaldi-native-fbank through its own C++ interface, linked with the
// library in its PyPI wheel (tools/bench.d/frontend compiles this file against the headers that lie there).
//
//   frontend_peer WAVE fbank|mfcc     WAVE: float samples of 16 kHz; prints the CPU seconds of one pass
#include <kaldi-native-fbank/csrc/online-feature.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <vector>

namespace {

std::vector<float> ReadSamples(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return {};
  std::fseek(file, 0, SEEK_END);
  std::vector<float> samples(static_cast<size_t>(std::ftell(file)) / sizeof(float));
  std::rewind(file);
  const size_t count = std::fread(samples.data(), sizeof(float), samples.size(), file);
  std::fclose(file);
  if (count != samples.size()) return {};
  for (float& x : samples) x *= 32768;  // the range that Kaldi's features are of; not timed
  return samples;
}

// The fast way: the whole wave at once, then every frame into one matrix.
template <class Features, class Options>
double Seconds(const Options& options, const std::vector<float>& samples, std::vector<float>& matrix) {
  const std::clock_t start = std::clock();
  Features features(options);
  features.AcceptWaveform(16000, samples.data(), static_cast<int32_t>(samples.size()));
  features.InputFinished();
  const auto dim = static_cast<size_t>(features.Dim());
  matrix.resize(static_cast<size_t>(features.NumFramesReady()) * dim);
  for (int32_t i = 0; i < features.NumFramesReady(); ++i)
    std::memcpy(matrix.data() + static_cast<size_t>(i) * dim, features.GetFrame(i), dim * sizeof(float));
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::vector<float> samples = ReadSamples(argv[1]);
  if (samples.empty()) return 1;
  std::vector<float> matrix;
  double seconds = 0;
  const bool mfcc = std::strcmp(argv[2], "mfcc") == 0;
  for (int pass = 0; pass < 2; ++pass) {  // the first warms up
    if (mfcc) {
      knf::MfccOptions options;
      options.frame_opts.dither = 0;
      options.frame_opts.snip_edges = false;
      options.mel_opts.num_bins = 23;
      options.use_energy = false;
      seconds = Seconds<knf::OnlineMfcc>(options, samples, matrix);
    } else {
      knf::FbankOptions options;
      options.frame_opts.dither = 0;
      options.frame_opts.snip_edges = false;
      options.mel_opts.num_bins = 80;
      seconds = Seconds<knf::OnlineFbank>(options, samples, matrix);
    }
  }
  double sum = 0;
  for (const float x : matrix) sum += x;
  std::printf("%.6f %zu %.6f\n", seconds, matrix.size(), sum / static_cast<double>(matrix.size()));
}
