// Our side of tools/bench encoder: the conformer encoder with random weights on random features, as a stream.
//
//   encoder_bench                         reads one command a line from stdin, answers each with a line of JSON:
//     {"type": "bf16", "seconds": 60, "threads": 2, "gate_drop": 0.0, "repeats": 3}
//       ->  {"seconds": the median, "cpu_seconds": the same of all threads together, "dropped": share of the frames}
//   encoder_bench --memory '{...}'        the same command, one run, or none with "compute": false:
//       {"peak_bytes": of the process from when the weights were there, "bytes_beyond_weights": that without them}
//
// type: fp32, bf16 or int8. 12 blocks of 256, feed-forward 1024, kernel 31, 4 heads, subsampling by 4; a frame sees its
// chunk of 128 encoder frames and the 128 before it. "chunk": encoder frames that are computed at a time. gate_drop:
// the energy gate takes this share of the frames, in pauses of some seconds, out of the sequence behind the first
// block.
#include <fmt/format.h>
#include <malloc.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/freed_memory.h"
#include "src/nn/encoder.h"
#include "src/nn/linear.h"

namespace {

using earshot::Encoder;
using earshot::InferencePrecision;
using nlohmann::json;

constexpr int64_t kFeatures = 80, kFramesPerSecond = 100, kSubsampling = 4;

struct Command {
  std::string type;
  int64_t frames = 0;
  int threads = 2;
  int repeats = 3;
  int64_t chunk = 1536;
  double gate_drop = 0;
  bool compute = true;
};

Command Parse(const std::string& text) {
  const json j = json::parse(text);
  Command c;
  c.type = j.at("type");
  c.frames = static_cast<int64_t>(j.at("seconds").get<double>() * kFramesPerSecond);
  c.threads = j.value("threads", c.threads);
  c.repeats = std::max(1, j.value("repeats", c.repeats));
  c.chunk = j.value("chunk", c.chunk);
  c.compute = j.value("compute", c.compute);
  if (c.chunk < 1) earshot::Throw("chunk is {}, expected 1 or more", c.chunk);
  c.gate_drop = j.value("gate_drop", c.gate_drop);
  if (!(c.gate_drop >= 0 && c.gate_drop <= 0.9)) earshot::Throw("gate_drop is {}, expected 0 to 0.9", c.gate_drop);
  return c;
}

// Encoder frames that stay on either side of what is worth hearing, and from the start of one pause to the next.
constexpr int64_t kGuard = 8, kPeriod = 256;

std::shared_ptr<Encoder> MakeEncoder(const std::string& type, bool gated) {
  const std::map<std::string, InferencePrecision> precisions = {{"fp32", InferencePrecision::kFloat},
                                                                {"bf16", InferencePrecision::kBFloat16},
                                                                {"int8", InferencePrecision::kInt8}};
  const auto precision = precisions.find(type);
  if (precision == precisions.end()) earshot::Throw("type '{}': expected fp32, bf16 or int8", type);
  torch::manual_seed(1);
  earshot::EncoderOptions o;
  o.num_layers = 12;
  o.dim = 256;
  o.heads = 4;
  o.feed_forward_dim = 1024;
  o.pattern = "local(chunk=128,left=128,lookahead=0)";
  o.subsampling = {.factor = static_cast<int>(kSubsampling), .channels = 64};
  o.convolution = {.kind = earshot::ConvolutionKind::kChunked, .kernel = 31, .chunk = 128};
  o.gate.kind = gated ? earshot::GateKind::kEnergy : earshot::GateKind::kOff;
  if (gated) o.skip = {.from_layer = 1, .threshold = 0.1, .blank_threshold = 0, .guard_frames = kGuard};
  auto encoder = std::make_shared<Encoder>(o, kFeatures);
  earshot::Prepack(*encoder, precision->second);
  return encoder;
}

// Features are drawn for one chunk and used again, so that an hour of them takes no memory of its own.
// Returns the share of the frames that were left out.
double Run(Encoder& encoder, const Command& c, const torch::Tensor& features) {
  int64_t frames = 0, dropped = 0;
  earshot::EncoderState state = encoder.StartStream();
  for (int64_t begin = 0; begin < c.frames; begin += features.size(1)) {
    const int64_t count = std::min(features.size(1), c.frames - begin);
    const earshot::EncoderOutput out = encoder.Stream(features.narrow(1, 0, count), begin + count == c.frames, state);
    frames += out.x.size(1);
    if (out.dropped.defined()) dropped += out.dropped.sum().item<int64_t>();
  }
  return static_cast<double>(dropped) / static_cast<double>(std::max<int64_t>(frames, 1));
}

torch::Tensor MakeFeatures(const Command& c) {
  torch::Tensor features =
      torch::randn({1, std::min(c.chunk * kSubsampling, std::max<int64_t>(c.frames, 1)), kFeatures});
  if (c.gate_drop == 0) return features;
  features.add_(1);
  const auto pause = static_cast<int64_t>(c.gate_drop * static_cast<double>(kPeriod)) + 2 * kGuard;
  for (int64_t begin = 0; begin < features.size(1); begin += kPeriod * kSubsampling)
    features.slice(1, begin, begin + pause * kSubsampling).sub_(5);
  return features;
}

double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

json Time(Encoder& encoder, const Command& c) {
  const torch::InferenceMode inference;
  at::set_num_threads(c.threads);
  const torch::Tensor features = MakeFeatures(c);
  std::vector<double> seconds, cpu_seconds;
  double dropped = 0;
  for (int i = 0; i < c.repeats; ++i) {
    const double start_cpu = CpuSeconds();
    const auto start = std::chrono::steady_clock::now();
    dropped = Run(encoder, c, features);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    cpu_seconds.push_back(CpuSeconds() - start_cpu);
  }
  return {{"seconds", Median(seconds)}, {"cpu_seconds", Median(cpu_seconds)}, {"dropped", dropped}};
}

// A field of /proc/self/status in bytes.
int64_t ProcessBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  earshot::Throw("/proc/self/status has no {}", field);
}

json Memory(const Command& c) {
  const torch::InferenceMode inference;
  at::set_num_threads(c.threads);
  const std::shared_ptr<Encoder> encoder = MakeEncoder(c.type, c.gate_drop > 0);
  const torch::Tensor features = MakeFeatures(c);
  malloc_trim(0);  // what packing has freed is not to serve what follows
  const int64_t before = ProcessBytes("VmRSS");
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak so far, that of packing, is forgotten
  if (c.compute) Run(*encoder, c, features);
  const int64_t peak = ProcessBytes("VmHWM");
  return {{"peak_bytes", peak}, {"bytes_beyond_weights", peak - before}};
}

}  // namespace

int main(int argc, char** argv) {
  earshot::KeepFreedMemory(32 << 20);  // as `earshot transcribe` does
  try {
    if (argc == 3 && std::string(argv[1]) == "--memory") {
      std::cout << Memory(Parse(argv[2])) << std::endl;
      return 0;
    }
    if (argc != 1) earshot::Throw("encoder_bench takes commands on stdin, or --memory and a command");
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  std::map<std::pair<std::string, bool>, std::shared_ptr<Encoder>> encoders;
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const Command c = Parse(line);
      std::shared_ptr<Encoder>& encoder = encoders[{c.type, c.gate_drop > 0}];
      if (!encoder) {
        encoder = MakeEncoder(c.type, c.gate_drop > 0);
        Command warm = c;
        warm.repeats = 1;
        warm.frames = std::min<int64_t>(c.frames, 2 * c.chunk * kSubsampling);
        Time(*encoder, warm);
      }
      std::cout << Time(*encoder, c) << std::endl;
    } catch (const std::exception& error) {
      std::cout << json{{"error", error.what()}} << std::endl;
    }
  }
  return 0;
}
