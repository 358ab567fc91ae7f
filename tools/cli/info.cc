// earshot info: what a model folder holds.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/base/options.h"
#include "src/model/asr_model.h"
#include "src/stream/acoustic_stream.h"
#include "tools/cli/command.h"
#include "tools/cli/model_folder.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

struct InfoArguments {
  std::string model;
  bool config = false;
};

// Encoder frames that the convolution gives out of those that it has.
int64_t ReadyOutputs(const ConvolutionOptions& convolution, int64_t received) {
  switch (convolution.kind) {
    case ConvolutionKind::kSymmetric: return std::max<int64_t>(0, received - convolution.kernel / 2);
    case ConvolutionKind::kChunked: return received / convolution.chunk * convolution.chunk;
    case ConvolutionKind::kCausal: return received;
  }
  return received;
}

// The most encoder frames that a frame waits for before it has gone through all layers, itself counted: the
// chunk, and the look-ahead of layer upon layer. nullopt: for the end of the recording.
std::optional<int64_t> FramesWaited(const Encoder& encoder) {
  constexpr int64_t kLooked = 4096;  // longer than any chunk, and all is periodic
  int64_t waited = 0, next = 0;
  for (int64_t received = 1; received <= 2 * kLooked && next < kLooked; ++received) {
    int64_t ready = received;
    for (int layer = 1; layer <= encoder.options().num_layers; ++layer) {
      ready = ReadyOutputs(encoder.options().convolution, encoder.pattern().ReadyQueries(ready));
      // A pause is left out once it is long enough.
      const SkipOptions& skip = encoder.options().skip;
      if (layer == skip.from_layer) ready = std::max<int64_t>(0, ready - skip.guard_frames);
    }
    for (; next < ready; ++next) waited = std::max(waited, received - next);
  }
  if (next < kLooked) return std::nullopt;
  return waited;
}

std::string Latency(const AsrModel& model) {
  const Encoder& encoder = model.network().encoder();
  const std::optional<int64_t> waited = FramesWaited(encoder);
  if (!waited) return "unlimited: the end of the recording is waited for";
  const FbankOptions& fbank = model.config().features.fbank;
  const double most_ms =
      static_cast<double>(encoder.FeaturesFor(*waited) - 1) * fbank.frame_shift_ms + fbank.frame_length_ms;
  return fmt::format("at most {:.0f} ms from a sound to its frame: {} encoder frames and the front end", most_ms,
                     *waited);
}

std::string FrontEnd(const AsrModel& model) {
  const FeatureOptions& features = model.config().features;
  const std::string kind =
      features.type == FeatureType::kMfcc ? fmt::format("{} MFCC", features.mfcc.num_ceps) : "log mel energies";
  return fmt::format("{} of {} filters, {} ms every {} ms at {} Hz, {}", kind, features.fbank.num_mel_bins,
                     features.fbank.frame_length_ms, features.fbank.frame_shift_ms, model.sample_rate(),
                     model.cmvn().mean.empty() ? "not normalised" : "normalised by the training set");
}

std::string NameOf(ConvolutionKind kind, int chunk) {
  switch (kind) {
    case ConvolutionKind::kSymmetric: return "symmetric";
    case ConvolutionKind::kCausal: return "causal";
    case ConvolutionKind::kChunked: return fmt::format("within chunks of {}", chunk);
  }
  return "";
}

std::string NameOf(GateKind kind) {
  switch (kind) {
    case GateKind::kOff: return "off";
    case GateKind::kEnergy: return "energy";
    case GateKind::kLearned: return "learned";
  }
  return "";
}

std::string Gate(const GateOptions& gate) {
  std::string text = NameOf(gate.kind);
  if (gate.kind == GateKind::kOff) return text;
  if (gate.kind == GateKind::kLearned && gate.with_energy) text += ", with the energy of the frames";
  if (gate.attention_threshold > 0)
    text += fmt::format("; frames below {} cost no attention", gate.attention_threshold);
  if (gate.threshold > 0) text += fmt::format("; frames below {} hold no words", gate.threshold);
  return text;
}

std::string Heads(const ModelConfig& config) {
  std::string heads = "CTC";
  if (!config.encoder.intermediate_layers.empty())
    heads += fmt::format(", trained also after block {}", fmt::join(config.encoder.intermediate_layers, ", "));
  if (config.ctc.self_conditioning) heads += ", fed back into the encoder";
  return heads;
}

void Print(const char* what, const std::string& value) { fmt::print("{:<14}{}\n", what, value); }

void RunInfo(const InfoArguments& arguments) {
  const std::string folder = FindModelFolder(arguments.model);
  const auto model = AsrModel::Load(folder, torch::kCPU);
  const ModelConfig& config = model->config();
  if (arguments.config) {
    fmt::print("{}", DumpOptions(config));
    return;
  }
  const EncoderOptions& encoder = config.encoder;
  const Pattern& pattern = model->network().encoder().pattern();
  const auto bytes = fs::file_size(fs::path(folder) / "model.safetensors");
  Print("model", folder);
  Print("parameters", fmt::format("{:.2f} million, {:.1f} MB on disk", model->network().NumParameters() / 1e6,
                                  static_cast<double>(bytes) / 1e6));
  Print("tokens", std::to_string(model->tokenizer().Size()));
  Print("front end", FrontEnd(*model));
  const std::string shared = encoder.kv_heads > 0 ? fmt::format(" ({} of keys and values)", encoder.kv_heads) : "";
  Print("encoder", fmt::format("{} blocks of width {}, {} heads{}, feed-forward of {}", encoder.num_layers, encoder.dim,
                               encoder.heads, shared, encoder.feed_forward_dim));
  Print("subsampling", fmt::format("by {}: an encoder frame every {:.0f} ms", encoder.subsampling.factor,
                                   model->encoder_frame_s() * 1000));
  Print("convolution", fmt::format("kernel of {}, {}", encoder.convolution.kernel,
                                   NameOf(encoder.convolution.kind, encoder.convolution.chunk)));
  Print("pattern", pattern.ToString());
  Print("gate", Gate(encoder.gate));
  if (encoder.skip.from_layer > 0)
    Print("skipping", fmt::format("behind block {} frames leave whose gate is below {}, but for {} round others",
                                  encoder.skip.from_layer, encoder.skip.threshold, encoder.skip.guard_frames));
  Print("head", Heads(config));
  Print("long files", pattern.Bounded()
                          ? "as a stream, exactly, in constant memory"
                          : fmt::format("in windows of {} s, in constant memory", WindowOptions{}.window_s));
  Print("latency", Latency(*model));
  const DynamicChunkOptions& chunks = config.dynamic_chunk;
  if (chunks.probability > 0)
    Print("chunks", fmt::format("trained in chunks of {} to {} frames: any latency can be chosen", chunks.min_frames,
                                chunks.max_frames));
}

}  // namespace

void AddInfo(CLI::App& app) {
  auto arguments = std::make_shared<InfoArguments>();
  CLI::App* command = app.add_subcommand("info", "What a model folder holds.");
  command->add_option("MODEL", arguments->model, "model folder [$EARSHOT_MODEL, models/an4]")->type_name("");
  command->add_flag("--config", arguments->config, "every option of the model, as YAML");
  command->footer(Examples({
      {"earshot info models/an4", "size, front end, encoder, pattern and latency"},
      {"earshot info models/an4 --config", "the model: block of a recipe that makes such a network"},
  }));
  command->callback([arguments] { RunInfo(*arguments); });
}

}  // namespace earshot
