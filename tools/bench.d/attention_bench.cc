// Earshot's side of `tools/bench attention`: reads one JSON command a line, answers with one JSON line each.
//
//   {"pattern": "sliding(left=128,right=128)", "frames": 4096, "type": "bf16", "heads": 4, "head_dim": 64,
//    "backward": false, "gate_drop": 0.3, "threads": 1, "repeats": 5}      ->  {"seconds": 0.0016, "cpu_seconds":
//    0.0016}
//   {"gemm": true, "type": "bf16", "threads": 1, "repeats": 5}            ->  {"flops": 1.2e12}
//
// seconds, cpu_seconds: the median of one call by the wall clock and by the clock of the process, after one call that
// is not counted. gate_drop: this share of the frames, in runs of 64, is below the gate's threshold. `attention_bench
// --memory JSON` computes once in this process alone and prints the peak memory beyond inputs and output,
// {"extra_bytes": N}.
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "src/attention/hybrid_attention.h"

namespace earshot {
namespace {

using Json = nlohmann::json;
using torch::Tensor;

torch::ScalarType TypeOf(const Json& command) {
  const std::string type = command.value("type", "fp32");
  if (type != "fp32" && type != "bf16") throw std::runtime_error("type is " + type + ", expected fp32 or bf16");
  return type == "bf16" ? torch::kBFloat16 : torch::kFloat;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of the wall clock, and of all threads of this process.
struct Times {
  double wall = 0, cpu = 0;
};

template <typename F>
Times MedianTimes(int repeats, F f) {
  f();
  std::vector<double> wall, cpu;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    f();
    cpu.push_back(static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC);
    wall.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return {Median(wall), Median(cpu)};
}

Json ToJson(const Times& times) { return {{"seconds", times.wall}, {"cpu_seconds", times.cpu}}; }

struct Problem {
  AttentionPlan plan;
  AttentionInputs in;
};

Problem MakeProblem(const Json& command) {
  const std::string device = command.value("device", "cpu");
  if (device != "cpu") throw std::runtime_error("device is " + device + "; only cpu is measured so far");
  torch::manual_seed(1);
  const int64_t frames = command.at("frames"), heads = command.value("heads", 4), dim = command.value("head_dim", 64);
  const double drop = command.value("gate_drop", 0.0);
  const Pattern pattern = Pattern::Parse(command.at("pattern").get<std::string>());
  Problem p;
  p.plan = MakeAttentionPlan(
      pattern, {.num_queries = frames, .num_keys = frames, .drop_below = drop > 0 ? std::log(0.5) : -INFINITY});
  const int64_t rows = p.plan.num_rows;
  const auto type = TypeOf(command);
  // The fused projection of a layer where the rows are frames alone, else what is joined of frames and summaries.
  if (rows == frames) {
    const auto parts = torch::randn({1, frames, 3, heads, dim}).to(type).permute({2, 0, 3, 1, 4}).unbind(0);
    p.in.q = parts[0], p.in.k = parts[1], p.in.v = parts[2];
  } else {
    p.in.q = torch::randn({1, frames, heads, dim}).to(type).transpose(1, 2);
    p.in.k = torch::randn({1, heads, rows, dim}).to(type);
    p.in.v = torch::randn({1, heads, rows, dim}).to(type);
  }
  if (drop > 0) {
    // Exactly this share of the blocks of 64 frames, drawn without putting back.
    const int64_t blocks = (frames + 63) / 64;
    const Tensor order = torch::randperm(blocks, torch::kInt64);
    p.in.bias = torch::zeros({1, rows});
    for (int64_t i = 0; i < std::llround(drop * static_cast<double>(blocks)); ++i) {
      const int64_t begin = order[i].item<int64_t>() * 64;
      p.in.bias.slice(1, begin, std::min(begin + 64, frames)).fill_(std::log(1e-3));
    }
  }
  if (const PatternTerm* t = pattern.learned()) {
    const int64_t blocks = (frames + t->chunk - 1) / t->chunk;
    p.in.selection = torch::full({1, blocks, t->blocks}, -1, torch::kInt64);
    p.in.selection_score = torch::zeros({1, blocks, t->blocks});
    auto chosen = p.in.selection.accessor<int64_t, 3>();
    for (int64_t b = 0; b < blocks; ++b) {
      const KeyRange range = t->Candidates(b);
      const int64_t last = std::min(range.last, blocks - 1);
      for (int64_t i = 0, c = last; i < t->blocks && c >= range.first; --c) {
        // Spread over what may be chosen, as a model that has learnt something would.
        const int64_t block = range.first + (c - range.first) * (i + 1) / t->blocks;
        if (block != b && (i == 0 || block != chosen[0][b][i - 1])) chosen[0][b][i++] = block;
      }
    }
  }
  return p;
}

Json Attention(const Json& command) {
  Problem p = MakeProblem(command);
  const int repeats = command.value("repeats", 5);
  if (!command.value("backward", false)) {
    const torch::NoGradGuard no_grad;
    return ToJson(MedianTimes(repeats, [&] { HybridAttention(p.in, p.plan); }));
  }
  for (Tensor* t : {&p.in.q, &p.in.k, &p.in.v}) *t = t->detach().requires_grad_();
  const Tensor gradient = torch::ones_like(p.in.q);
  return ToJson(MedianTimes(repeats, [&] {
    const Tensor out = HybridAttention(p.in, p.plan);
    torch::autograd::grad({out}, {p.in.q, p.in.k, p.in.v}, {gradient});
  }));
}

// The rate of ATen's own matrix products, of shapes that attention and a linear layer have; the best of them.
Json Gemm(const Json& command) {
  const torch::NoGradGuard no_grad;
  double best = 0;
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{4096, 64, 272}, {4096, 256, 1024}, {2048, 1024, 1024}}) {
    const Tensor a = torch::randn({m, k}).to(TypeOf(command)), b = torch::randn({k, n}).to(TypeOf(command));
    const double seconds = MedianTimes(command.value("repeats", 5), [&] { torch::matmul(a, b); }).cpu;
    best = std::max(best, 2.0 * static_cast<double>(m * k * n) / seconds * at::get_num_threads());
  }
  return {{"flops", best}};
}

Json Answer(const std::string& line) {
  try {
    const Json command = Json::parse(line);
    at::set_num_threads(command.value("threads", 1));
    return command.value("gemm", false) ? Gemm(command) : Attention(command);
  } catch (const std::exception& e) {
    return {{"error", e.what()}};
  }
}

// Peak resident memory of this process, in bytes.
int64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::stoll(line.substr(6));
  }
  return 0;
}

Json Memory(const Json& command) {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  Json small = command;
  small["frames"] = 64;
  Problem warm = MakeProblem(small);
  HybridAttention(warm.in, warm.plan);  // what a first call loads once
  Problem p = MakeProblem(command);
  Tensor out = torch::ones_like(p.in.q);  // the output's own pages, given back before the call
  out = Tensor();
  // The peak of making the inputs is over; what follows is beyond them.
  std::ofstream("/proc/self/clear_refs") << "5";
  const int64_t before = PeakBytes();
  out = HybridAttention(p.in, p.plan);
  const int64_t bytes = PeakBytes() - before - static_cast<int64_t>(out.nbytes());
  return {{"extra_bytes", std::max<int64_t>(bytes, 0)}};
}

}  // namespace
}  // namespace earshot

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--memory") {
    std::cout << earshot::Memory(nlohmann::json::parse(argv[2])) << std::endl;
    return 0;
  }
  for (std::string line; std::getline(std::cin, line);) std::cout << earshot::Answer(line) << std::endl;
  return 0;
}
