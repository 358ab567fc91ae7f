// earshot transcribe: recordings of any length to text, subtitles and words with times.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"
#include "src/base/freed_memory.h"
#include "src/base/progress_bar.h"
#include "src/decode/speech_segments.h"
#include "src/stream/service.h"
#include "src/stream/transcriber.h"
#include "src/stream/writers.h"
#include "tools/cli/command.h"
#include "tools/cli/model_folder.h"
#include "tools/cli/side_by_side.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct TranscribeArguments {
  std::vector<std::string> files;
  ModelArguments model;
  std::string format = "txt", output_dir, vad;
  LatencyOptions latency;
  int threads = 0;  // 0: as many as there are cores
};

std::string Stem(const std::string& path) { return path == "-" ? "stdin" : fs::path(path).stem().string(); }

// How far all recordings are: by their bytes, which are known before any is opened. Thread-safe.
class Progress {
 public:
  explicit Progress(const std::vector<std::string>& files)
      : bytes_(files.size()), done_(files.size()), seconds_(files.size()) {
    for (size_t i = 0; i < files.size(); ++i) {
      std::error_code error;
      const auto size = fs::file_size(files[i], error);
      bytes_[i] = error || files[i] == "-" ? 1 : std::max(1.0, static_cast<double>(size));
    }
    bar_.emplace("transcribe", static_cast<int64_t>(std::accumulate(bytes_.begin(), bytes_.end(), 0.0)));
  }

  // share: of the file, in [0, 1].
  void Update(size_t file, double share, double seconds) {
    const std::lock_guard lock(mutex_);
    done_[file] = std::clamp(share, 0.0, 1.0) * bytes_[file];
    seconds_[file] = seconds;
    const double audio_s = std::accumulate(seconds_.begin(), seconds_.end(), 0.0);
    const double wall_s = std::chrono::duration<double>(Clock::now() - start_).count();
    bar_->Update(
        static_cast<int64_t>(std::accumulate(done_.begin(), done_.end(), 0.0)),
        fmt::format("{:.1f} min of audio, {:.1f} x real time", audio_s / 60, audio_s / std::max(wall_s, 1e-3)));
  }

  void Finish() { bar_->Finish(); }

 private:
  const Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::vector<double> bytes_, done_, seconds_;  // of each file
  std::optional<ProgressBar> bar_;
};

// Results in the order of the files, each as soon as it and those before it are there. Thread-safe.
class OrderedOutput {
 public:
  explicit OrderedOutput(size_t count) : results_(count) {}

  void Put(size_t i, std::string result) {
    const std::lock_guard lock(mutex_);
    results_[i] = std::move(result);
    for (; next_ < results_.size() && results_[next_]; ++next_) {
      if (results_[next_]->empty()) continue;
      ProgressBar::Clear();
      fmt::print("{}", *results_[next_]);
      std::fflush(stdout);
      results_[next_]->clear();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::optional<std::string>> results_;
  size_t next_ = 0;
};

// The transcripts of all files, and what became of each.
class TranscribeJob {
 public:
  TranscribeJob(const TranscribeArguments& arguments, const std::shared_ptr<const AsrModel>& model)
      : arguments_(arguments),
        format_(ParseOutputFormat(arguments.format)),
        encoder_frame_s_(model->encoder_frame_s()),
        transcriber_(model, {.reach = ReachIfGiven(*model, arguments.latency)}),
        progress_(arguments.files),
        output_(arguments.files.size()) {}

  void Run(size_t i) {
    const std::string& path = arguments_.files[i];
    try {
      output_.Put(i, arguments_.vad.empty() ? Recognize(i) : FindSpeech(i));
    } catch (const Error& e) {
      Fail(i, e.what());
    } catch (const std::exception& e) {
      Fail(i, fmt::format("{}: {}", path, FirstLine(e)));
    }
  }

  // Throws Error when a file failed.
  void Finish() {
    // Where all failed, their lines say enough.
    if (failures_.size() < arguments_.files.size()) progress_.Finish();
    if (failures_.empty()) return;
    if (arguments_.files.size() == 1) throw Error(failures_.front());
    Throw("{} of {} recordings could not be transcribed", failures_.size(), arguments_.files.size());
  }

 private:
  // Each returns what stdout gets.
  std::string Recognize(size_t i) {
    const Transcript transcript = Run(i, {});
    const std::string& path = arguments_.files[i];
    if (format_ == OutputFormat::kTxt && arguments_.output_dir.empty())
      return fmt::format("{}\t{}\n", path, transcript.text);
    return Give(path, FormatTranscript(transcript, format_, Stem(path)), Extension(format_));
  }

  std::string FindSpeech(size_t i) {
    SpeechSegmenter segmenter({}, encoder_frame_s_);
    std::vector<SpeechSegment> segments;
    const auto take = [&](bool final) {
      for (const SpeechSegment& segment : segmenter.Take(final)) segments.push_back(segment);
    };
    const Transcript transcript = Run(i, [&](std::span<const float> gate) {
      segmenter.Accept(gate);
      take(false);
    });
    take(true);
    for (SpeechSegment& segment : segments) segment.end_s = std::min(segment.end_s, transcript.duration_s);
    const std::string& path = arguments_.files[i];
    const SpeechFormat format = ParseSpeechFormat(arguments_.vad);
    return Give(path, FormatSpeech(segments, transcript.duration_s, format, Stem(path)), Extension(format));
  }

  Transcript Run(size_t i, std::function<void(std::span<const float>)> gate) {
    const auto reader =
        AudioReader::Open(arguments_.files[i], {.sample_rate = transcriber_.sample_rate(), .allow_damaged = true});
    const double duration_s = reader->duration_s();
    TranscribeCallbacks callbacks;
    callbacks.progress = [&](double done_s) { progress_.Update(i, duration_s > 0 ? done_s / duration_s : 0, done_s); };
    callbacks.gate = std::move(gate);
    Transcript transcript = transcriber_.Transcribe(*reader, callbacks);
    progress_.Update(i, 1, transcript.duration_s);
    return transcript;
  }

  // What stdout gets: nothing where it goes into a file.
  std::string Give(const std::string& path, std::string result, const std::string& extension) const {
    if (arguments_.output_dir.empty()) return result;
    const fs::path target = fs::path(arguments_.output_dir) / (Stem(path) + extension);
    WriteFileAtomically(target.string(), result);
    return "";
  }

  void Fail(size_t i, const std::string& what) {
    {
      const std::lock_guard lock(mutex_);
      failures_.push_back(what);
      // A single one is told at the end.
      if (arguments_.files.size() > 1) {
        ProgressBar::Clear();
        fmt::print(stderr, "earshot: {}\n", what);
      }
    }
    progress_.Update(i, 1, 0);
    output_.Put(i, "");
  }

  const TranscribeArguments& arguments_;
  OutputFormat format_;
  double encoder_frame_s_;
  Transcriber transcriber_;
  Progress progress_;
  OrderedOutput output_;
  std::mutex mutex_;
  std::vector<std::string> failures_;
};

// What can be told before a model is loaded.
void Check(const TranscribeArguments& arguments) {
  ParseOutputFormat(arguments.format);
  if (!arguments.vad.empty()) ParseSpeechFormat(arguments.vad);
  if (arguments.threads < 0) Throw("--threads {}: expected 1 or more, or 0 for one for each core", arguments.threads);
  if (std::count(arguments.files.begin(), arguments.files.end(), "-") > 1)
    Throw("-: standard input can be read once, and is named twice");
  if (arguments.output_dir.empty()) return;
  std::set<std::string> stems;
  for (const std::string& path : arguments.files) {
    if (!stems.insert(Stem(path)).second)
      Throw("{}: another recording has its name too, and both would be {}{}; use a folder for each", path, Stem(path),
            arguments.vad.empty() ? Extension(ParseOutputFormat(arguments.format))
                                  : Extension(ParseSpeechFormat(arguments.vad)));
  }
  std::error_code error;
  fs::create_directories(arguments.output_dir, error);
  if (error) Throw("--output-dir {}: cannot be made: {}", arguments.output_dir, error.message());
}

void RunTranscribe(const TranscribeArguments& arguments) {
  Check(arguments);
  KeepFreedMemory(32 << 20);
  const auto model = LoadModel(arguments.model);
  if (!arguments.vad.empty() && model->config().encoder.gate.kind == GateKind::kOff)
    Throw(
        "--vad: this model has no gate (encoder.gate.kind is off), and it is the gate that tells speech from silence");
  // On a GPU two: one decodes audio while the other computes.
  const int workers = model->device().is_cuda() ? 2 : 0;
  TranscribeJob job(arguments, model);
  RunSideBySide(arguments.files.size(), {.threads = arguments.threads, .workers = workers},
                [&](size_t i) { job.Run(i); });
  job.Finish();
}

}  // namespace

void AddTranscribe(CLI::App& app) {
  auto arguments = std::make_shared<TranscribeArguments>();
  CLI::App* command = app.add_subcommand("transcribe", "Recordings of any format and length to text and subtitles.");
  command->add_option("FILE", arguments->files, "recordings; - for standard input")->type_name("")->required();
  AddModelOptions(*command, arguments->model);
  command->add_option("--format", arguments->format, "txt, json, srt, vtt or ctm [txt]")->type_name("NAME");
  command->add_option("--vad", arguments->vad, "where speech is, instead of the words: rttm or json")
      ->type_name("NAME");
  AddLatencyOptions(*command, "as a stream of this latency would hear it [the model's own pattern]",
                    arguments->latency);
  command->add_option("--output-dir", arguments->output_dir, "a folder: the recording's name with .srt and so on")
      ->type_name("DIR");
  command->add_option("--threads", arguments->threads, "CPU threads; each takes a recording [one for each core]")
      ->type_name("N");
  command->footer(Examples({
      {"earshot transcribe talk.mp3 meeting.m4a", "a line for each: the file, a tab, the text"},
      {"earshot transcribe --format srt --output-dir subtitles *.mkv", "subtitles/NAME.srt for each"},
      {"earshot transcribe --format json talk.mp3 > talk.json", "segments and words with times and confidence"},
      {"earshot transcribe --vad rttm meeting.wav", "SPEAKER meeting 1 0.350 2.140 ... for each stretch of speech"},
      {"ffmpeg -i film.mkv -f wav - | earshot transcribe -", "from standard input"},
  }));
  command->callback([arguments] { RunTranscribe(*arguments); });
}

}  // namespace earshot
