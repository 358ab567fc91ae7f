#include "src/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <unordered_set>

#include "src/base/error.h"
#include "src/data/line_reader.h"

namespace earshot {
namespace {

// Before the end of an epoch, the share of skipped utterances means little over fewer than these.
constexpr int64_t kMinJudged = 100;

// What came of one utterance: an example, a reason why there is none, or an exception to pass on.
struct Outcome {
  std::optional<Example> example;
  std::string reason;
  std::exception_ptr failure;
};

// A batch in the making; `remaining` guards the outcomes: who reads them has seen it reach 0.
struct Slot {
  int64_t epoch;
  int64_t index;
  std::vector<int64_t> utterances;
  std::vector<Outcome> outcomes;
  size_t started = 0;
  size_t remaining = 0;
};

// The kind of a reason: "a/b.wav: 12 samples" and "c.wav: 7 samples" are one. What stands before the
// first ": " (where) goes, and digits become #.
std::string ReasonKind(const std::string& reason) {
  const size_t colon = reason.find(": ");
  std::string kind;
  for (const char c : colon == std::string::npos ? reason : reason.substr(colon + 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit)
      kind += c;
    else if (!kind.ends_with('#'))
      kind += '#';
  }
  return kind;
}

// Appends to skipped.jsonl; an id that an earlier run has put there is not written again.
class SkippedFile {
 public:
  explicit SkippedFile(const std::string& path) : path_(path) {
    if (path.empty()) return;
    std::error_code error;
    if (std::filesystem::exists(path, error)) ReadIds();
    const auto folder = std::filesystem::path(path).parent_path();
    if (!folder.empty()) std::filesystem::create_directories(folder, error);
    file_.open(path, std::ios::app);
    if (!file_) Throw("{}: cannot be written; is the folder there and writable?", path);
  }

  void Add(const Utterance& utterance, const std::string& reason) {
    if (path_.empty() || !ids_.insert(utterance.id).second) return;
    nlohmann::ordered_json line;
    line["id"] = utterance.id;
    line["audio"] = utterance.audio_path;
    line["reason"] = reason;
    file_ << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << std::endl;
  }

 private:
  // A run that was killed may leave half a line: it names no id, and the next one starts anew.
  void ReadIds() {
    LineReader reader(path_);
    std::string line;
    while (reader.Next(line)) {
      const auto json = nlohmann::json::parse(line, nullptr, false);
      if (json.is_object() && json.contains("id") && json["id"].is_string()) ids_.insert(json["id"]);
    }
  }

  std::string path_;
  std::ofstream file_;
  std::unordered_set<std::string> ids_;
};

}  // namespace

void LoaderOptions::Visit(OptionVisitor& visitor) {
  visitor.Field("num_threads", num_threads);
  visitor.Field("prefetch_batches", prefetch_batches);
  visitor.Field("prefetch_across_epochs", prefetch_across_epochs);
  visitor.Field("max_skipped_share", max_skipped_share);
}

void LoaderOptions::Validate() const {
  if (num_threads < 1) Throw("num_threads is {}, expected at least 1", num_threads);
  if (prefetch_batches < 1) Throw("prefetch_batches is {}, expected at least 1", prefetch_batches);
  if (!(max_skipped_share >= 0 && max_skipped_share <= 1))
    Throw("max_skipped_share is {}, expected 0 to 1", max_skipped_share);
}

class Loader::Impl {
 public:
  Impl(std::vector<Utterance> utterances, Sampler sampler, MakeExample make_example, const LoaderOptions& options,
       const std::string& skipped_path)
      : utterances_(std::move(utterances)),
        sampler_(std::move(sampler)),
        make_example_(std::move(make_example)),
        options_(options),
        skipped_path_(skipped_path),
        skipped_file_(skipped_path) {
    options_.Validate();
    EARSHOT_CHECK(static_cast<int64_t>(utterances_.size()) == sampler_.NumUtterances(),
                  "{} utterances, a sampler of {}", utterances_.size(), sampler_.NumUtterances());
    Seek({});
    for (int i = 0; i < options_.num_threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::optional<Batch> Next() {
    while (true) {
      if (state_.position >= sampler_.NumBatches()) {
        state_ = {state_.epoch + 1, 0};
        CheckSkipped(1);
        return std::nullopt;
      }
      const std::shared_ptr<Slot> slot = TakeSlot();
      ++state_.position;
      Batch batch{.examples = {}, .epoch = slot->epoch, .index = slot->index};
      Collect(*slot, batch);
      CheckSkipped(kMinJudged);
      if (!batch.examples.empty()) return batch;
    }
  }

  const SamplerState& state() const { return state_; }

  void Seek(const SamplerState& state) {
    EARSHOT_CHECK(state.epoch >= 0 && state.position >= 0 && state.position <= sampler_.NumBatches(),
                  "epoch {}, position {} of {} batches", state.epoch, state.position, sampler_.NumBatches());
    const std::lock_guard lock(mutex_);
    state_ = state;
    ahead_ = state;
    // Workers that are in one of these keep it alive, finish their example, and find it gone.
    slots_.clear();
    planned_epoch_ = -1;
  }

  const Sampler& sampler() const { return sampler_; }
  const LoaderCounts& counts() const { return counts_; }

 private:
  // The first slot, when all of it is made; opens further ones in its place.
  std::shared_ptr<Slot> TakeSlot() {
    std::unique_lock lock(mutex_);
    OpenSlots();
    std::shared_ptr<Slot> slot = slots_.front();
    slot_ready_.wait(lock, [&slot] { return slot->remaining == 0; });
    slots_.pop_front();
    OpenSlots();
    return slot;
  }

  // Keeps prefetch_batches slots open; needs mutex_.
  void OpenSlots() {
    bool opened = false;
    while (slots_.size() < static_cast<size_t>(options_.prefetch_batches)) {
      if (ahead_.position >= sampler_.NumBatches()) {
        if (!options_.prefetch_across_epochs && ahead_.epoch >= state_.epoch) break;
        ahead_ = {ahead_.epoch + 1, 0};
      }
      if (planned_epoch_ != ahead_.epoch) {
        plan_ = sampler_.Batches(ahead_.epoch);
        planned_epoch_ = ahead_.epoch;
      }
      auto slot = std::make_shared<Slot>();
      slot->epoch = ahead_.epoch;
      slot->index = ahead_.position;
      slot->utterances = std::move(plan_[static_cast<size_t>(ahead_.position)]);
      slot->outcomes.resize(slot->utterances.size());
      slot->remaining = slot->utterances.size();
      slots_.push_back(std::move(slot));
      ++ahead_.position;
      opened = true;
    }
    if (opened) work_ready_.notify_all();
  }

  // A worker's life: the next utterance that nobody has begun, in the order of the batches.
  void Work() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      const auto open = std::find_if(slots_.begin(), slots_.end(),
                                     [](const auto& slot) { return slot->started < slot->utterances.size(); });
      if (open == slots_.end()) {
        work_ready_.wait(lock);
        continue;
      }
      const std::shared_ptr<Slot> slot = *open;
      const size_t i = slot->started++;
      lock.unlock();
      Outcome outcome = Make(slot->epoch, slot->utterances[i]);
      lock.lock();
      slot->outcomes[i] = std::move(outcome);
      if (--slot->remaining == 0) slot_ready_.notify_one();
    }
  }

  Outcome Make(int64_t epoch, int64_t index) const {
    Outcome outcome;
    try {
      Random random = Random::For(
          {static_cast<uint64_t>(sampler_.options().seed), static_cast<uint64_t>(epoch), static_cast<uint64_t>(index)});
      outcome.example = make_example_(utterances_[static_cast<size_t>(index)], random);
    } catch (const Error& e) {
      outcome.reason = e.what();
    } catch (...) {
      outcome.failure = std::current_exception();
    }
    return outcome;
  }

  // Moves the examples over and counts the rest, in the order of the batch.
  void Collect(Slot& slot, Batch& batch) {
    for (size_t i = 0; i < slot.outcomes.size(); ++i) {
      Outcome& outcome = slot.outcomes[i];
      if (outcome.failure) std::rethrow_exception(outcome.failure);
      ++counts_.utterances;
      if (outcome.example) {
        batch.examples.push_back(std::move(*outcome.example));
        continue;
      }
      ++counts_.skipped;
      ++counts_.reasons[ReasonKind(outcome.reason)];
      skipped_file_.Add(utterances_[static_cast<size_t>(slot.utterances[i])], outcome.reason);
    }
  }

  void CheckSkipped(int64_t min_judged) const {
    if (counts_.utterances < min_judged) return;
    const double share = static_cast<double>(counts_.skipped) / static_cast<double>(counts_.utterances);
    if (share <= options_.max_skipped_share) return;
    std::vector<std::pair<int64_t, std::string>> commonest;
    for (const auto& [reason, count] : counts_.reasons) commonest.emplace_back(count, reason);
    std::stable_sort(commonest.begin(), commonest.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::string reasons;
    for (size_t i = 0; i < commonest.size() && i < 3; ++i)
      reasons += fmt::format("{}{} x '{}'", i > 0 ? ", " : "", commonest[i].first, commonest[i].second);
    Throw("{} of {} utterances had to be skipped ({:.1f} %, max_skipped_share allows {:.1f} %): {}{}", counts_.skipped,
          counts_.utterances, 100 * share, 100 * options_.max_skipped_share, reasons,
          skipped_path_.empty() ? "" : "; each is named in " + skipped_path_);
  }

  const std::vector<Utterance> utterances_;
  const Sampler sampler_;
  const MakeExample make_example_;
  const LoaderOptions options_;
  const std::string skipped_path_;

  // Of the thread that calls Next.
  SkippedFile skipped_file_;
  LoaderCounts counts_;
  SamplerState state_;

  // Guarded by mutex_.
  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::condition_variable slot_ready_;
  std::deque<std::shared_ptr<Slot>> slots_;
  std::vector<std::vector<int64_t>> plan_;
  int64_t planned_epoch_ = -1;
  // The next batch to open.
  SamplerState ahead_;
  bool stop_ = false;

  std::vector<std::thread> threads_;
};

Loader::Loader(std::vector<Utterance> utterances, Sampler sampler, MakeExample make_example,
               const LoaderOptions& options, const std::string& skipped_path)
    : impl_(std::make_unique<Impl>(std::move(utterances), std::move(sampler), std::move(make_example), options,
                                   skipped_path)) {}

Loader::~Loader() = default;

std::optional<Batch> Loader::Next() { return impl_->Next(); }
SamplerState Loader::state() const { return impl_->state(); }
void Loader::Seek(const SamplerState& state) { impl_->Seek(state); }
const Sampler& Loader::sampler() const { return impl_->sampler(); }
const LoaderCounts& Loader::counts() const { return impl_->counts(); }

}  // namespace earshot
