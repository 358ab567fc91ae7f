// earshot evaluate: the error rates of a model on a manifest.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/progress_bar.h"
#include "src/base/work.h"
#include "src/stream/service.h"
#include "src/stream/transcriber.h"
#include "src/train/evaluate.h"
#include "tools/cli/alignment_report.h"
#include "tools/cli/command.h"
#include "tools/cli/model_folder.h"
#include "tools/cli/side_by_side.h"

namespace earshot {
namespace {

// Longer utterances are recognised as a stream, in constant memory, instead of in a padded batch.
constexpr double kLongestInBatch_s = 60;
constexpr int kBootstrapDraws = 10000;

struct EvaluateArguments {
  ModelArguments model;
  std::string manifest, split, json, alignments, normalize = "auto";
  LatencyOptions latency;
};

LetterCase CaseOf(const std::string& option, const Tokenizer& tokenizer) {
  RequireOneOf("--normalize", option, {"auto", "none", "lower", "upper"});
  if (option == "lower") return LetterCase::kLower;
  if (option == "upper") return LetterCase::kUpper;
  if (option == "none") return LetterCase::kKeep;
  // A model whose tokens know one case only can never match the other.
  bool has_upper = false, has_lower = false;
  for (int token = tokenizer.unk_id() + 1; token < tokenizer.Size(); ++token) {
    const std::string piece = tokenizer.Piece(token);
    if (piece.starts_with("<0x")) return LetterCase::kKeep;  // bytes spell anything
    const std::string plain = Normalize({}, piece);
    has_upper |= Normalize({.letter_case = LetterCase::kLower}, piece) != plain;
    has_lower |= Normalize({.letter_case = LetterCase::kUpper}, piece) != plain;
  }
  if (has_upper == has_lower) return LetterCase::kKeep;
  return has_upper ? LetterCase::kUpper : LetterCase::kLower;
}

const char* NameOf(LetterCase letter_case) {
  return letter_case == LetterCase::kUpper ? "upper" : letter_case == LetterCase::kLower ? "lower" : "none";
}

struct LongResult {
  EvaluatedUtterance utterance;
  std::string failure;  // empty: there was none
  double duration_s = 0;
  double gate_sum = 0;
  int64_t gate_frames = 0;
};

LongResult EvaluateLongUtterance(const Transcriber& transcriber, const Utterance& utterance,
                                 const NormalizeOptions& normalize) {
  LongResult result;
  result.utterance.id = utterance.id;
  TranscribeCallbacks callbacks;
  callbacks.gate = [&](std::span<const float> gate) {
    for (const float g : gate) result.gate_sum += g;
    result.gate_frames += static_cast<int64_t>(gate.size());
  };
  try {
    const auto reader = AudioReader::Open(
        utterance.audio_path,
        {.sample_rate = transcriber.sample_rate(), .offset_s = utterance.offset_s, .duration_s = utterance.duration_s});
    const Transcript transcript = transcriber.Transcribe(*reader, callbacks);
    result.duration_s = transcript.duration_s;
    result.utterance.reference = Normalize(normalize, utterance.text);
    result.utterance.hypothesis = Normalize(normalize, transcript.text);
    result.utterance.words = WordErrors(result.utterance.reference, result.utterance.hypothesis);
    result.utterance.characters = CharacterErrors(result.utterance.reference, result.utterance.hypothesis);
  } catch (const Error& e) {
    result.failure = e.what();
  }
  return result;
}

// seconds_wall is left to the caller.
Evaluation EvaluateLong(const std::shared_ptr<const AsrModel>& model, const std::vector<Utterance>& utterances,
                        const EvaluateOptions& options) {
  const Transcriber transcriber(model, {.reach = options.reach});
  std::vector<LongResult> results(utterances.size());
  ProgressBar bar("evaluate long recordings", static_cast<int64_t>(utterances.size()));
  std::mutex mutex;
  int64_t done = 0;
  RunSideBySide(utterances.size(), {.workers = model->device().is_cuda() ? 1 : 0}, [&](size_t i) {
    results[i] = EvaluateLongUtterance(transcriber, utterances[i], options.normalize);
    const std::lock_guard lock(mutex);
    bar.Update(++done, "");
  });
  bar.Finish();
  Evaluation evaluation;
  double gate_sum = 0;
  int64_t gate_frames = 0;
  for (LongResult& result : results) {
    if (!result.failure.empty()) {
      evaluation.skipped.push_back({result.utterance.id, result.failure});
      continue;
    }
    evaluation.words += result.utterance.words;
    evaluation.characters += result.utterance.characters;
    evaluation.seconds_audio += result.duration_s;
    gate_sum += result.gate_sum;
    gate_frames += result.gate_frames;
    const double frames = std::ceil(result.duration_s / model->encoder_frame_s());
    evaluation.full_pairs += frames * frames;
    evaluation.utterances.push_back(std::move(result.utterance));
  }
  if (gate_frames > 0) evaluation.mean_gate = gate_sum / static_cast<double>(gate_frames);
  return evaluation;
}

void Merge(Evaluation& into, Evaluation&& other) {
  const double seconds = into.seconds_audio + other.seconds_audio;
  if (seconds > 0)
    into.mean_gate = (into.mean_gate * into.seconds_audio + other.mean_gate * other.seconds_audio) / seconds;
  into.seconds_audio = seconds;
  into.full_pairs += other.full_pairs;
  into.words += other.words;
  into.characters += other.characters;
  std::move(other.utterances.begin(), other.utterances.end(), std::back_inserter(into.utterances));
  std::move(other.skipped.begin(), other.skipped.end(), std::back_inserter(into.skipped));
}

// Short utterances in padded batches, long ones as streams; the result in the order of the manifest.
Evaluation EvaluateAll(const std::shared_ptr<const AsrModel>& model, const std::vector<Utterance>& utterances,
                       const EvaluateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<double> durations = Durations(utterances);
  std::vector<Utterance> short_ones, long_ones;
  std::unordered_map<std::string, size_t> place;
  for (size_t u = 0; u < utterances.size(); ++u) {
    (durations[u] > kLongestInBatch_s ? long_ones : short_ones).push_back(utterances[u]);
    place.emplace(utterances[u].id, u);
  }
  Evaluation evaluation;
  if (!short_ones.empty()) evaluation = Evaluate(*model, short_ones, options);
  if (!long_ones.empty()) {
    Merge(evaluation, EvaluateLong(model, long_ones, options));
    const auto before = [&](const auto& a, const auto& b) { return place.at(a.id) < place.at(b.id); };
    std::stable_sort(evaluation.utterances.begin(), evaluation.utterances.end(), before);
    std::stable_sort(evaluation.skipped.begin(), evaluation.skipped.end(), before);
  }
  evaluation.seconds_wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return evaluation;
}

struct Summary {
  Interval wer;
  int64_t wrong_utterances = 0;
  double times_real_time = 0;
  // Of the frames of all blocks, and of full attention's pairs, those that were computed. Attention: 0 where it is not
  // counted, on a GPU.
  double frames_share = 1, attention_share = 0;
};

Summary Summarize(const Evaluation& evaluation, const Work& work, int num_layers) {
  std::vector<ErrorCounts> counts;
  Summary summary;
  for (const EvaluatedUtterance& utterance : evaluation.utterances) {
    counts.push_back(utterance.words);
    if (utterance.words.errors() > 0) ++summary.wrong_utterances;
  }
  summary.wer = BootstrapInterval(counts, kBootstrapDraws, 1);
  summary.times_real_time = evaluation.seconds_audio / std::max(1e-9, evaluation.seconds_wall);
  if (work.frames > 0)
    summary.frames_share = static_cast<double>(work.block_frames) / static_cast<double>(work.frames * num_layers);
  if (evaluation.full_pairs > 0)
    summary.attention_share = static_cast<double>(work.attention_pairs) / (evaluation.full_pairs * num_layers);
  return summary;
}

void Print(const Evaluation& e, const Summary& summary) {
  const auto counts = [](const ErrorCounts& c, const char* what) {
    return fmt::format("{} errors in {} {}: {} substituted, {} deleted, {} inserted", c.errors(), c.reference, what,
                       c.substitutions, c.deletions, c.insertions);
  };
  fmt::print("WER {:.2f} %  (95 % interval {:.2f} to {:.2f})  {}\n", 100 * e.words.Rate(), 100 * summary.wer.low,
             100 * summary.wer.high, counts(e.words, "words"));
  fmt::print("CER {:.2f} %  {}\n", 100 * e.characters.Rate(), counts(e.characters, "characters"));
  fmt::print("{} utterances, {} of them with an error; {} skipped; mean gate {:.3f}\n", e.utterances.size(),
             summary.wrong_utterances, e.skipped.size(), e.mean_gate);
  fmt::print("computed: {:.1f} % of the frames", 100 * summary.frames_share);
  if (summary.attention_share > 0) fmt::print(", {:.1f} % of full attention", 100 * summary.attention_share);
  fmt::print("\n");
  fmt::print("{:.1f} s of audio in {:.1f} s: {:.1f} times real time\n", e.seconds_audio, e.seconds_wall,
             summary.times_real_time);
}

nlohmann::json ToJson(const EvaluateArguments& arguments, const Evaluation& e, const Summary& summary) {
  nlohmann::json skipped = nlohmann::json::array();
  for (const SkippedUtterance& s : e.skipped) skipped.push_back({{"id", s.id}, {"reason", s.reason}});
  return {{"model", arguments.model.folder},
          {"manifest", arguments.manifest},
          {"split", arguments.split},
          {"normalize", arguments.normalize},
          {"precision", arguments.model.precision},
          {"set", arguments.model.sets},
          {"latency_ms", arguments.latency.latency_ms},
          {"wer", 100 * e.words.Rate()},
          {"wer_low", 100 * summary.wer.low},
          {"wer_high", 100 * summary.wer.high},
          {"cer", 100 * e.characters.Rate()},
          {"words", e.words.reference},
          {"substitutions", e.words.substitutions},
          {"deletions", e.words.deletions},
          {"insertions", e.words.insertions},
          {"characters", e.characters.reference},
          {"utterances", e.utterances.size()},
          {"wrong_utterances", summary.wrong_utterances},
          {"skipped", e.skipped.size()},
          {"skipped_utterances", skipped},
          {"mean_gate", e.mean_gate},
          {"frames_share", summary.frames_share},
          {"attention_share", summary.attention_share},
          {"seconds_audio", e.seconds_audio},
          {"seconds_wall", e.seconds_wall},
          {"times_real_time", summary.times_real_time}};
}

void RunEvaluate(EvaluateArguments arguments) {
  arguments.model.folder = FindModelFolder(arguments.model.folder);
  const auto model = LoadModel(arguments.model);
  const std::vector<Utterance> utterances = LoadManifest(arguments.manifest, arguments.split);
  const NormalizeOptions normalize = {.letter_case = CaseOf(arguments.normalize, model->tokenizer())};
  arguments.normalize = NameOf(normalize.letter_case);
  const Work before = WorkDone();
  EvaluateOptions options{.normalize = normalize, .progress = true};
  options.reach = ReachIfGiven(*model, arguments.latency);
  const Evaluation evaluation = EvaluateAll(model, utterances, options);
  const Work work = WorkDone() - before;
  for (const SkippedUtterance& s : evaluation.skipped) LogWarning("{} is skipped: {}", s.id, s.reason);
  if (evaluation.utterances.empty())
    Throw("{}: none of the {} utterances could be recognised", arguments.manifest, utterances.size());
  const Summary summary = Summarize(evaluation, work, model->config().encoder.num_layers);
  Print(evaluation, summary);
  if (!arguments.json.empty())
    WriteFileAtomically(
        arguments.json,
        ToJson(arguments, evaluation, summary).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  if (arguments.alignments.empty()) return;
  std::vector<ReportedUtterance> reported;
  for (const EvaluatedUtterance& u : evaluation.utterances) reported.push_back({u.id, u.reference, u.hypothesis});
  WriteAlignmentReport(arguments.alignments, reported);
}

}  // namespace

void AddEvaluate(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command = app.add_subcommand("evaluate", "Word and character error rates of a model on a manifest.");
  AddModelOptions(*command, arguments->model);
  command->add_option("--manifest", arguments->manifest, "utterances with their texts: .jsonl, Lhotse cuts, Kaldi dir")
      ->required()
      ->type_name("FILE");
  command->add_option("--split", arguments->split, "the manifest's split to use [all]")->type_name("NAME");
  command->add_option("--json", arguments->json, "the figures for programs; wer and cer in percent")
      ->type_name("OUT.json");
  command->add_option("--alignments", arguments->alignments, "reference above hypothesis, the worst utterance first")
      ->type_name("OUT.txt");
  command
      ->add_option("--normalize", arguments->normalize,
                   "letter case of both texts: upper, lower, none, or auto: the one that the model knows [auto]")
      ->type_name("NAME");
  AddLatencyOptions(*command, "as a stream of this latency would hear it [the model's own pattern]",
                    arguments->latency);
  command->footer(Examples({
      {"earshot evaluate --model exp/an4/model --manifest data/an4/test.jsonl", "WER with its 95 % interval"},
      {"earshot evaluate --model models/an4 --manifest samples/manifest.jsonl --json wer.json --alignments errors.txt",
       "for programs, and for a look at each error"},
      {"earshot evaluate --manifest test.jsonl --set encoder.skip.from_layer=2 --set encoder.skip.threshold=0.05",
       "with frames that the gate turns down left out behind the second block"},
  }));
  command->callback([arguments] { RunEvaluate(*arguments); });
}

}  // namespace earshot
