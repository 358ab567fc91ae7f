// earshot features: audio to fbank or MFCC, by the code that training and recognition use.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/audio/audio_reader.h"
#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/options.h"
#include "src/frontend/feature_extractor.h"
#include "src/frontend/online_features.h"
#include "tools/cli/command.h"
#include "tools/cli/npy.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

struct FeaturesArguments {
  std::vector<std::string> files;
  std::string type, config, output, output_dir;
  int num_mel_bins = 0;  // 0: as the options say
  std::vector<std::string> sets;
};

using UseFrames = std::function<void(std::span<const float> frames)>;  // (n, C)

// Streams a file of any length through the front end; returns T.
int64_t ComputeFeatures(const std::string& path, const std::shared_ptr<const FeatureExtractor>& extractor,
                        const UseFrames& use) {
  const auto reader = AudioReader::Open(path, {.sample_rate = extractor->sample_rate()});
  OnlineFeatures features(extractor);
  int64_t done = 0;
  const auto drain = [&] {
    const int64_t ready = features.NumFramesReady();
    if (ready > done) use(features.GetFrames(done, ready));
    features.DiscardBefore(ready);
    done = ready;
  };
  std::vector<float> block(static_cast<size_t>(extractor->sample_rate()));  // a second at a time
  while (const size_t n = reader->Read(block)) {
    features.AcceptWaveform(std::span<const float>(block).first(n));
    drain();
  }
  features.InputFinished();
  drain();
  return done;
}

std::string Name(const std::string& path) { return path == "-" ? "stdin" : fs::path(path).stem().string(); }

void WriteNpy(const std::string& path, const std::string& output,
              const std::shared_ptr<const FeatureExtractor>& extractor) {
  NpyWriter npy(output, extractor->dim());
  const int64_t frames = ComputeFeatures(path, extractor, [&](std::span<const float> values) { npy.Append(values); });
  npy.Finish();
  LogInfo("{}: {} frames of {} in {}", path, frames, extractor->dim(), output);
}

// Kaldi's text archive: "NAME  [", a row a line, " ]".
void PrintText(const std::string& path, const std::shared_ptr<const FeatureExtractor>& extractor) {
  const auto dim = static_cast<size_t>(extractor->dim());
  bool begun = false;  // not before the recording could be opened
  ComputeFeatures(path, extractor, [&](std::span<const float> values) {
    if (!std::exchange(begun, true)) fmt::print("{}  [", Name(path));
    for (size_t i = 0; i < values.size(); ++i) fmt::print("{}{:.7g}", i % dim == 0 ? "\n  " : " ", values[i]);
  });
  fmt::print("{} ]\n", begun ? "" : Name(path) + "  [");
}

FeatureOptions OptionsOf(const FeaturesArguments& arguments) {
  std::vector<std::string> sets;
  if (!arguments.type.empty()) RequireOneOf("--type", arguments.type, {"fbank", "mfcc"});
  if (!arguments.type.empty()) sets.push_back("type=" + arguments.type);
  if (arguments.num_mel_bins != 0) sets.push_back(fmt::format("fbank.num_mel_bins={}", arguments.num_mel_bins));
  sets.insert(sets.end(), arguments.sets.begin(), arguments.sets.end());
  FeatureOptions options;
  const std::string yaml = arguments.config.empty() ? "" : ReadFile(arguments.config);
  ReadOptions(arguments.config.empty() ? "command line" : arguments.config, yaml, sets, options);
  return options;
}

void RunFeatures(const FeaturesArguments& arguments) {
  if (!arguments.output.empty() && !arguments.output_dir.empty())
    Throw("--output and --output-dir: expected one of the two");
  if (!arguments.output.empty() && arguments.files.size() > 1)
    Throw("--output {}: one file for {} recordings; --output-dir takes many", arguments.output, arguments.files.size());
  std::set<std::string> names;
  for (const std::string& path : arguments.files) {
    if (!arguments.output_dir.empty() && !names.insert(Name(path)).second)
      Throw("{}: another recording has its name too, and both would be {}.npy; use a folder for each", path,
            Name(path));
  }
  const auto extractor = MakeFeatureExtractor(OptionsOf(arguments));
  for (const std::string& path : arguments.files) {
    if (!arguments.output.empty()) {
      WriteNpy(path, arguments.output, extractor);
    } else if (!arguments.output_dir.empty()) {
      WriteNpy(path, (fs::path(arguments.output_dir) / (Name(path) + ".npy")).string(), extractor);
    } else {
      PrintText(path, extractor);
    }
  }
}

}  // namespace

void AddFeatures(CLI::App& app) {
  auto arguments = std::make_shared<FeaturesArguments>();
  CLI::App* command = app.add_subcommand("features", "Computes fbank or MFCC features of recordings.");
  command->add_option("FILE", arguments->files, "recordings, of any format, rate and length; - for standard input")
      ->type_name("")
      ->required();
  command->add_option("--type", arguments->type, "fbank or mfcc [fbank]")->type_name("NAME");
  command->add_option("--num-mel-bins", arguments->num_mel_bins, "mel filters [80]")->type_name("N");
  command->add_option("--config", arguments->config, "options of the front end, as a recipe's features: block")
      ->type_name("FILE.yaml");
  command->add_option("--set", arguments->sets, "one more option, fbank.window=hann, say; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  command->add_option("-o,--output", arguments->output, "a NumPy file, (frames, features) float")
      ->type_name("FILE.npy");
  command->add_option("--output-dir", arguments->output_dir, "a folder: the recording's name with .npy, for each")
      ->type_name("DIR");
  command->footer(Examples({
      {"earshot features talk.mp3 -o talk.npy", "80 log mel filters each 10 ms, for numpy.load"},
      {"earshot features --type mfcc --num-mel-bins 23 a.flac b.flac", "MFCC as text, in the form of Kaldi's archives"},
      {"earshot features --set fbank.window=hann --output-dir feats *.wav", "with another window, many recordings"},
  }));
  command->callback([arguments] { RunFeatures(*arguments); });
}

}  // namespace earshot
