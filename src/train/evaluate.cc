#include "src/train/evaluate.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "src/audio/audio_reader.h"
#include "src/base/error.h"
#include "src/base/progress_bar.h"
#include "src/decode/ctc_greedy.h"
#include "src/train/collate.h"

namespace earshot {
namespace {

struct Recognized {
  std::string text;
  std::string failure;  // why the utterance was skipped; empty: it was not
  double duration_s = 0;
  double gate_sum = 0;
  int64_t gate_frames = 0;
  int64_t frames = 0;
};

Example ReadExample(const AsrModel& model, const Utterance& utterance) {
  const std::vector<float> samples = ReadAudio(
      utterance.audio_path,
      {.sample_rate = model.sample_rate(), .offset_s = utterance.offset_s, .duration_s = utterance.duration_s});
  if (samples.empty()) Throw("{}: holds no samples", utterance.audio_path);
  std::vector<float> padded = model.EdgePadding();
  const size_t edge = padded.size();
  padded.insert(padded.end(), samples.begin(), samples.end());
  padded.resize(padded.size() + edge);
  Example example{.id = utterance.id, .features = model.extractor()->Compute(padded)};
  example.num_frames = static_cast<int64_t>(example.features.size()) / model.extractor()->dim();
  example.duration_s = static_cast<double>(samples.size()) / model.sample_rate();
  return example;
}

// Recognises one padded batch, results into their places.
void RecognizeBatch(const AsrModel& model, const std::vector<Utterance>& utterances, const std::vector<size_t>& batch,
                    const Reach* reach, std::vector<Recognized>& results) {
  const torch::NoGradGuard no_grad;
  std::vector<Example> examples;
  std::vector<size_t> places;
  for (const size_t u : batch) {
    try {
      examples.push_back(ReadExample(model, utterances[u]));
      if (examples.back().num_frames == 0) {
        results[u].duration_s = examples.back().duration_s;
        examples.pop_back();
        continue;  // shorter than a frame: nothing is said
      }
      places.push_back(u);
    } catch (const Error& e) {
      results[u].failure = e.what();
    }
  }
  if (examples.empty()) return;
  std::vector<const Example*> pointers;
  for (const Example& e : examples) pointers.push_back(&e);
  const Collated collated = Collate(pointers, {.dim = model.extractor()->dim(), .cmvn = &model.cmvn()});
  const CtcOutput output = model.network().forward(collated.features.to(model.device()), collated.lens, reach);
  const torch::Tensor log_probs = output.log_probs.to(torch::kCPU);
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    const auto frames = output.lens[row].item<int64_t>();
    Recognized& result = results[places[i]];
    result.text = CtcGreedyText(log_probs[row].narrow(0, 0, frames), model.tokenizer());
    result.duration_s = examples[i].duration_s;
    result.frames = frames;
    if (output.gate.defined()) {
      result.gate_sum = output.gate[row].narrow(0, 0, frames).sum().item<double>();
      result.gate_frames = frames;
    }
  }
}

}  // namespace

Evaluation Evaluate(const AsrModel& model, const std::vector<Utterance>& utterances, const EvaluateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  // Batches of similar durations, the longest first. Where the manifest tells none, the file does.
  const std::vector<double> durations = Durations(utterances);
  std::vector<size_t> order(utterances.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return durations[a] > durations[b]; });
  std::vector<std::vector<size_t>> batches;
  int64_t longest = 0;
  for (const size_t u : order) {
    const auto frames = static_cast<int64_t>(std::max(1.0, durations[u] * 100));
    const bool fits =
        !batches.empty() && static_cast<int64_t>(batches.back().size() + 1) * longest <= options.max_batch_frames;
    if (!fits) {
      batches.emplace_back();
      longest = frames;
    }
    batches.back().push_back(u);
  }

  std::vector<Recognized> results(utterances.size());
  const int cores = at::get_num_threads();
  const int workers =
      model.device().is_cuda()
          ? 1
          : std::max(1, options.workers > 0 ? options.workers : static_cast<int>(std::thread::hardware_concurrency()));
  std::atomic<size_t> next{0}, done{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  std::mutex mutex;
  std::optional<ProgressBar> bar;
  if (options.progress) bar.emplace("evaluate", static_cast<int64_t>(utterances.size()));
  const auto run = [&] {
    try {
      for (size_t b = next++; b < batches.size() && !failed; b = next++) {
        RecognizeBatch(model, utterances, batches[b], options.reach ? &*options.reach : nullptr, results);
        const size_t count = done += batches[b].size();
        const std::lock_guard lock(mutex);
        if (bar) bar->Update(static_cast<int64_t>(count), "");
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      failed = true;
    }
  };
  if (workers > 1) at::set_num_threads(std::max(1, cores / workers));
  std::vector<std::thread> threads;
  for (int w = 1; w < workers; ++w) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
  if (workers > 1) at::set_num_threads(cores);
  if (bar) bar->Finish();
  if (failure) std::rethrow_exception(failure);

  Evaluation evaluation;
  double gate_sum = 0;
  int64_t gate_frames = 0;
  for (size_t u = 0; u < utterances.size(); ++u) {
    const Recognized& result = results[u];
    if (!result.failure.empty()) {
      evaluation.skipped.push_back({utterances[u].id, result.failure});
      continue;
    }
    EvaluatedUtterance e{.id = utterances[u].id,
                         .reference = Normalize(options.normalize, utterances[u].text),
                         .hypothesis = Normalize(options.normalize, result.text)};
    e.words = WordErrors(e.reference, e.hypothesis);
    e.characters = CharacterErrors(e.reference, e.hypothesis);
    evaluation.words += e.words;
    evaluation.characters += e.characters;
    evaluation.seconds_audio += result.duration_s;
    gate_sum += result.gate_sum;
    gate_frames += result.gate_frames;
    evaluation.full_pairs += static_cast<double>(result.frames) * static_cast<double>(result.frames);
    evaluation.utterances.push_back(std::move(e));
  }
  if (gate_frames > 0) evaluation.mean_gate = gate_sum / static_cast<double>(gate_frames);
  evaluation.seconds_wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return evaluation;
}

}  // namespace earshot
