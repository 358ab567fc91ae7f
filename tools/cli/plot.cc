// earshot plot: a recording as the model sees it: wave, words, spectrogram, gate and attention.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/stream/transcriber.h"
#include "tools/cli/command.h"
#include "tools/cli/model_folder.h"
#include "tools/cli/plot_recording.h"

namespace earshot {
namespace {

// The attention map grows with the square of the time.
constexpr double kLongestMap_s = 120;
// The samples of all of it are held.
constexpr double kLongest_s = 3600;

struct PlotArguments {
  std::string model, file, output, device = "auto";
  std::optional<int> layer;  // the last
  double offset_s = 0;
  std::optional<double> duration_s;
};

std::vector<float> ReadSamples(const PlotArguments& arguments, int sample_rate) {
  std::vector<float> samples = ReadAudio(arguments.file, {.sample_rate = sample_rate,
                                                          .offset_s = arguments.offset_s,
                                                          .duration_s = arguments.duration_s.value_or(kLongest_s + 1),
                                                          .allow_damaged = true});
  if (static_cast<double>(samples.size()) > kLongest_s * sample_rate)
    Throw("{}: is longer than an hour; plot a part of it with --offset and --duration", arguments.file);
  return samples;
}

void AddSpectrogram(const AsrModel& model, RecordingPlot& plot) {
  FeatureOptions options = model.config().features;
  options.type = FeatureType::kFbank;
  const auto fbank = MakeFeatureExtractor(options);
  plot.spectrogram = fbank->Compute(plot.samples);
  plot.dim = fbank->dim();
  plot.num_frames = static_cast<int>(plot.spectrogram.size()) / plot.dim;
  plot.frame_shift_s = options.fbank.frame_shift_ms / 1000.0;
}

void AddWordsAndGate(const std::shared_ptr<const AsrModel>& model, RecordingPlot& plot) {
  TranscribeCallbacks callbacks;
  callbacks.gate = [&](std::span<const float> gate) { plot.gate.insert(plot.gate.end(), gate.begin(), gate.end()); };
  const Transcript transcript = Transcriber(model).Transcribe(std::span<const float>(plot.samples), callbacks);
  for (const Segment& segment : transcript.segments)
    plot.words.insert(plot.words.end(), segment.words.begin(), segment.words.end());
  LogInfo("{}", transcript.text.empty() ? "no words" : transcript.text);
}

void AddAttention(const AsrModel& model, int layer, RecordingPlot& plot) {
  const c10::InferenceMode inference;
  const auto longest = static_cast<size_t>(kLongestMap_s * model.sample_rate());
  if (plot.samples.size() > longest)
    LogInfo("the attention map is that of the first {:.0f} s alone; --offset and --duration choose others",
            kLongestMap_s);
  std::vector<float> features =
      model.Features(std::span<const float>(plot.samples).first(std::min(longest, plot.samples.size())));
  const int64_t dim = model.extractor()->dim(), frames = static_cast<int64_t>(features.size()) / dim;
  if (frames == 0) return;
  const torch::Tensor batch =
      torch::from_blob(features.data(), {1, frames, dim}, torch::kFloat).clone().to(model.device());  // (1, T, C)
  Encoder& encoder = model.network().encoder();
  const torch::Tensor map =
      encoder.AttentionMap(batch, torch::full({1}, frames, torch::kLong), layer, model.network().conditioning());
  const torch::Tensor plain = map[0].to(torch::kCPU, torch::kFloat).contiguous();  // (T', T')
  plot.attention.assign(plain.data_ptr<float>(), plain.data_ptr<float>() + plain.numel());
  plot.attention_frames = static_cast<int>(plain.size(0));
  plot.attention_layer = layer;
  LogInfo("attention of block {}: {}", layer, encoder.pattern().ToString());
}

void RunPlot(const PlotArguments& arguments) {
  if (!arguments.output.ends_with(".svg") && !arguments.output.ends_with(".png"))
    Throw("--output {}: expected a name that ends in .svg or .png", arguments.output);
  const auto model = LoadModel({.folder = arguments.model, .device = arguments.device, .precision = "float"});
  const int layers = model->config().encoder.num_layers;
  const int layer = arguments.layer.value_or(layers);
  if (layer < 1 || layer > layers) Throw("--layer {}: the encoder has the layers 1 to {}", layer, layers);
  if (!(arguments.offset_s >= 0 && std::isfinite(arguments.offset_s)))
    Throw("--offset {}: expected seconds, 0 or more", arguments.offset_s);
  if (arguments.duration_s && !(*arguments.duration_s > 0 && std::isfinite(*arguments.duration_s)))
    Throw("--duration {}: expected seconds, more than 0", *arguments.duration_s);
  RecordingPlot plot;
  plot.title = arguments.file;
  plot.sample_rate = model->sample_rate();
  plot.samples = ReadSamples(arguments, plot.sample_rate);
  if (plot.samples.empty()) Throw("{}: holds no samples, so there is nothing to draw", arguments.file);
  plot.encoder_frame_s = model->encoder_frame_s();
  AddSpectrogram(*model, plot);
  AddWordsAndGate(model, plot);
  AddAttention(*model, layer, plot);
  DrawRecording(plot, arguments.output);
}

}  // namespace

void AddPlot(CLI::App& app) {
  auto arguments = std::make_shared<PlotArguments>();
  CLI::App* command = app.add_subcommand("plot", "Draws a recording with its words, gate and attention.");
  command->add_option("FILE", arguments->file, "a recording; - for standard input")->type_name("")->required();
  command->add_option("-o,--output", arguments->output, "what is drawn: .svg or .png")->type_name("FILE")->required();
  command->add_option("--model", arguments->model, "model folder [$EARSHOT_MODEL, models/an4]")->type_name("DIR");
  command->add_option("--layer", arguments->layer, "the block whose attention is drawn, from 1 [the last]")
      ->type_name("N");
  command->add_option("--offset", arguments->offset_s, "where to begin [0]")->type_name("SECONDS");
  command->add_option("--duration", arguments->duration_s, "how much to draw [to the end]")->type_name("SECONDS");
  command->add_option("--device", arguments->device, "cpu, cuda, cuda:N or auto [auto]")->type_name("NAME");
  command->footer(Examples({
      {"earshot plot samples/conversation.flac -o conversation.svg", "with the attention of the last block"},
      {"earshot plot talk.mp3 --offset 60 --duration 10 --layer 1 -o talk.png", "ten seconds, the first block"},
  }));
  command->callback([arguments] { RunPlot(*arguments); });
}

}  // namespace earshot
