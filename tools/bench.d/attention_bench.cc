// Earshot's side of `tools/bench attention`: reads one JSON command a line, answers with one JSON line each.
//
//   {"pattern": "sliding(left=128,right=128)", "frames": 4096, "type": "bf16", "heads": 4, "head_dim": 64,
//    "backward": false, "gate_drop": 0.3, "threads": 1, "repeats": 5}      ->  {"seconds": 0.0016, "cpu_seconds":
//    0.0016}
//   {"gemm": true, "type": "bf16", "threads": 1, "repeats": 5}            ->  {"flops": 1.2e12}
//   {"check": true, "patterns": [...], "type": "bf16", "device": "cuda"}   ->  {"errors": {"full, gradients": 0.003}}
//
// seconds, cpu_seconds: the median of one call by the wall clock and by the clock of the process, after one call that
// is not counted; on "device": "cuda" the calls follow one another, and seconds is their mean. gate_drop: this share of
// the frames, in runs of 64, is below the gate's threshold. check: the largest difference from the definition in
// double, relative to the largest number, of the output and of the gradients. `attention_bench --memory JSON` computes
// once in this process alone and prints the peak memory beyond inputs and output, {"extra_bytes": N}.
#include <ATen/DeviceAccelerator.h>
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
#include "src/model/device.h"

namespace earshot {
namespace {

using Json = nlohmann::json;
using torch::Tensor;

torch::ScalarType TypeOf(const Json& command) {
  const std::string type = command.value("type", "fp32");
  if (type == "fp32") return torch::kFloat;
  if (type == "bf16") return torch::kBFloat16;
  if (type == "fp16") return torch::kHalf;
  throw std::runtime_error("type is " + type + ", expected fp32, bf16 or fp16");
}

torch::Device DeviceOf(const Json& command) { return ParseDevice(command.value("device", "cpu")); }

void Wait(torch::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of the wall clock, and of all threads of this process.
struct Times {
  double wall = 0, cpu = 0;
};

double Seconds(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <typename F>
Times MedianTimes(int repeats, torch::Device device, F f) {
  f();
  if (!device.is_cpu()) {
    Wait(device);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; ++i) f();
    Wait(device);
    return {Seconds(start) / repeats, 0};
  }
  std::vector<double> wall, cpu;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    f();
    cpu.push_back(static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC);
    wall.push_back(Seconds(start));
  }
  return {Median(wall), Median(cpu)};
}

Json ToJson(const Times& times) {
  Json json = {{"seconds", times.wall}};
  if (times.cpu > 0) json["cpu_seconds"] = times.cpu;
  return json;
}

struct Problem {
  AttentionPlan plan;
  AttentionInputs in;
};

Problem MakeProblem(const Json& command) {
  const torch::Device device = DeviceOf(command);
  torch::manual_seed(1);
  const int64_t frames = command.at("frames"), heads = command.value("heads", 4), dim = command.value("head_dim", 64);
  const double drop = command.value("gate_drop", 0.0);
  const Pattern pattern = Pattern::Parse(command.at("pattern").get<std::string>());
  Problem p;
  p.plan = MakeAttentionPlan(
      pattern, {.num_queries = frames, .num_keys = frames, .drop_below = drop > 0 ? std::log(0.5) : -INFINITY});
  const int64_t rows = p.plan.num_rows;
  const auto type = torch::TensorOptions().dtype(TypeOf(command)).device(device);
  const auto random = [&](torch::IntArrayRef shape) { return torch::randn(shape, type.dtype(torch::kFloat)).to(type); };
  // The fused projection of a layer where the rows are frames alone, else what is joined of frames and summaries.
  if (rows == frames) {
    const auto parts = random({1, frames, 3, heads, dim}).permute({2, 0, 3, 1, 4}).unbind(0);
    p.in.q = parts[0], p.in.k = parts[1], p.in.v = parts[2];
  } else {
    p.in.q = random({1, frames, heads, dim}).transpose(1, 2);
    p.in.k = random({1, heads, rows, dim});
    p.in.v = random({1, heads, rows, dim});
  }
  if (!device.is_cpu() && !HasCudaKernels(p.in)) throw std::runtime_error("the CUDA kernels are not there");
  if (drop > 0) {
    // Exactly this share of the blocks of 64 frames, drawn without putting back.
    const int64_t blocks = (frames + 63) / 64;
    const Tensor order = torch::randperm(blocks, torch::kInt64);
    p.in.bias = torch::zeros({1, rows});
    for (int64_t i = 0; i < std::llround(drop * static_cast<double>(blocks)); ++i) {
      const int64_t begin = order[i].item<int64_t>() * 64;
      p.in.bias.slice(1, begin, std::min(begin + 64, frames)).fill_(std::log(1e-3));
    }
    p.in.bias = p.in.bias.to(device);
  }
  if (const PatternTerm* t = pattern.learned()) {
    const int64_t blocks = (frames + t->chunk - 1) / t->chunk;
    p.in.selection = torch::full({1, blocks, t->blocks}, -1, torch::kInt64);
    p.in.selection_score = torch::zeros({1, blocks, t->blocks}, torch::TensorOptions().device(device));
    auto chosen = p.in.selection.accessor<int64_t, 3>();
    for (int64_t b = 0; b < blocks; ++b) {
      const KeyRange range = t->Candidates(b);
      std::vector<int64_t> others;
      for (int64_t c = range.first; c <= std::min(range.last, blocks - 1); ++c)
        if (c != b) others.push_back(c);
      // Spread over what may be chosen, as a model that has learnt something would.
      const int64_t count = std::min(t->blocks, static_cast<int64_t>(others.size()));
      for (int64_t i = 0; i < count; ++i) chosen[0][b][i] = others[static_cast<size_t>(i) * others.size() / count];
    }
  }
  return p;
}

Json Attention(const Json& command) {
  Problem p = MakeProblem(command);
  const int repeats = command.value("repeats", 5);
  if (!command.value("backward", false)) {
    const torch::NoGradGuard no_grad;
    return ToJson(MedianTimes(repeats, p.in.q.device(), [&] { HybridAttention(p.in, p.plan); }));
  }
  for (Tensor* t : {&p.in.q, &p.in.k, &p.in.v}) *t = t->detach().requires_grad_();
  const Tensor gradient = torch::ones_like(p.in.q);
  return ToJson(MedianTimes(repeats, p.in.q.device(), [&] {
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
    const double seconds = MedianTimes(command.value("repeats", 5), torch::kCPU, [&] { torch::matmul(a, b); }).cpu;
    best = std::max(best, 2.0 * static_cast<double>(m * k * n) / seconds * at::get_num_threads());
  }
  return {{"flops", best}};
}

// Output and gradients by q, k, v and, where there is one, the bias.
std::vector<Tensor> Everything(AttentionInputs in, const AttentionPlan& plan, const Tensor& gradient,
                               Tensor (*attention)(const AttentionInputs&, const AttentionPlan&)) {
  std::vector<Tensor> leaves;
  for (Tensor* t : {&in.q, &in.k, &in.v, &in.bias}) {
    if (!t->defined()) continue;
    *t = t->detach().requires_grad_();
    leaves.push_back(*t);
  }
  const Tensor out = attention(in, plan);
  std::vector<Tensor> all = torch::autograd::grad({out}, leaves, {gradient});
  all.insert(all.begin(), out.detach());
  return all;
}

Json Check(const Json& command) {
  Json errors = Json::object();
  for (const std::string pattern : command.at("patterns")) {
    for (const double drop : {0.0, 0.3}) {
      for (const bool padded : {false, true}) {
        Json one = command;
        one["pattern"] = pattern, one["frames"] = 700, one["gate_drop"] = drop;
        Problem p = MakeProblem(one);
        if (padded) p.in.lens = torch::tensor({int64_t{531}}, torch::kInt64);
        const Tensor gradient = torch::randn_like(p.in.q);
        const std::vector<Tensor> got = Everything(p.in, p.plan, gradient, HybridAttention);
        AttentionInputs in = p.in;
        for (Tensor* t : {&in.q, &in.k, &in.v, &in.bias, &in.selection_score})
          if (t->defined()) *t = t->to(torch::kCPU, torch::kDouble);
        const std::vector<Tensor> expected =
            Everything(in, p.plan, gradient.to(torch::kCPU, torch::kDouble), HybridAttentionReference);
        const std::string name = pattern + (drop > 0 ? ", gate" : "") + (padded ? ", padded" : "");
        double of_output = 0, of_gradients = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          const Tensor difference = (got[i].to(torch::kCPU, torch::kDouble) - expected[i]).abs().max();
          const double error = difference.item<double>() / expected[i].abs().max().item<double>();
          double& worst = i == 0 ? of_output : of_gradients;
          worst = error > worst || std::isnan(error) ? error : worst;
        }
        errors[name] = of_output;
        errors[name + ", gradients"] = of_gradients;
      }
    }
  }
  return {{"errors", errors}};
}

Json Answer(const std::string& line) {
  try {
    const Json command = Json::parse(line);
    at::set_num_threads(command.value("threads", 1));
    if (command.value("check", false)) return Check(command);
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
  if (const torch::Device device = p.in.q.device(); !device.is_cpu()) {
    HybridAttention(p.in, p.plan);  // lists that stay with the plan
    Wait(device);
    const auto allocated = [&] {
      return at::accelerator::getDeviceStats(device.index())
          .allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    };
    at::accelerator::resetPeakStats(device.index());
    const int64_t before = allocated().current;
    const Tensor out = HybridAttention(p.in, p.plan);
    return {{"extra_bytes", allocated().peak - before - static_cast<int64_t>(out.nbytes())}};
  }
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
