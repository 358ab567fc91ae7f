#include "src/data/loader.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;

std::vector<Utterance> MakeUtterances(int count) {
  std::vector<Utterance> utterances;
  for (int i = 0; i < count; ++i)
    utterances.push_back({fmt::format("u{}", i), fmt::format("/{}.wav", i), 0, 1.0 + i % 7, "A"});
  return utterances;
}

// What depends on the utterance and on its Random, after a wait that upsets the order of the threads.
Example MakeNumbers(const Utterance& utterance, Random& random) {
  std::this_thread::sleep_for(std::chrono::microseconds(std::hash<std::string>{}(utterance.id) % 500));
  Example example;
  example.id = utterance.id;
  example.features = {static_cast<float>(random.Uniform()), static_cast<float>(random.Normal())};
  example.num_frames = 1;
  return example;
}

class LoaderTest : public testing::Test {
 protected:
  std::unique_ptr<Loader> Make(int count, const MakeExample& make, LoaderOptions options = {},
                               const std::string& skipped_path = "") {
    std::vector<Utterance> utterances = MakeUtterances(count);
    Sampler sampler(Durations(utterances), {.num_buckets = 3, .max_frames = 3000, .seed = 11});
    return std::make_unique<Loader>(std::move(utterances), std::move(sampler), make, options, skipped_path);
  }
  TestFolder folder_;
};

// One line a batch: all that it holds.
std::string Print(const Batch& batch) {
  std::string line = fmt::format("{}/{}:", batch.epoch, batch.index);
  for (const Example& example : batch.examples)
    line += fmt::format(" {} {} {}", example.id, example.features[0], example.features[1]);
  return line;
}

std::vector<std::string> TakeEpochs(Loader& loader, int epochs) {
  std::vector<std::string> lines;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    while (std::optional<Batch> batch = loader.Next()) lines.push_back(Print(*batch));
    lines.push_back("end");
  }
  return lines;
}

TEST_F(LoaderTest, TheSameBatchesFromAnyNumberOfThreads) {
  const auto expected = TakeEpochs(*Make(100, MakeNumbers, {.num_threads = 1, .prefetch_batches = 1}), 3);
  EXPECT_EQ(expected.size(), 3 * (1 + static_cast<size_t>(Make(100, MakeNumbers)->sampler().NumBatches())));
  for (const int num_threads : {2, 5, 16}) {
    for (const int prefetch_batches : {1, 3, 40}) {
      for (const bool across : {true, false}) {
        const LoaderOptions options{
            .num_threads = num_threads, .prefetch_batches = prefetch_batches, .prefetch_across_epochs = across};
        EXPECT_EQ(TakeEpochs(*Make(100, MakeNumbers, options), 3), expected)
            << num_threads << " threads, " << prefetch_batches << " batches ahead, across epochs: " << across;
      }
    }
  }
}

TEST_F(LoaderTest, EpochsDrawAnew) {
  const auto loader = Make(10, MakeNumbers);
  std::map<std::string, std::vector<float>> drawn[2];
  for (auto& epoch : drawn) {
    while (std::optional<Batch> batch = loader->Next()) {
      for (const Example& example : batch->examples) epoch[example.id] = example.features;
    }
  }
  ASSERT_EQ(drawn[0].size(), 10U);
  for (const auto& [id, features] : drawn[0]) EXPECT_NE(features, drawn[1][id]) << id;
}

TEST_F(LoaderTest, ResumesWhereItStood) {
  const auto all = TakeEpochs(*Make(60, MakeNumbers), 2);
  for (size_t taken = 0; taken < all.size(); ++taken) {
    const auto first = Make(60, MakeNumbers);
    for (size_t i = 0; i < taken; ++i) first->Next();
    const auto resumed = Make(60, MakeNumbers);
    resumed->Next();
    resumed->Seek(first->state());
    EXPECT_EQ(resumed->state(), first->state());
    std::vector<std::string> rest;
    while (taken + rest.size() < all.size()) {
      const std::optional<Batch> batch = resumed->Next();
      rest.push_back(batch ? Print(*batch) : "end");
    }
    EXPECT_EQ(rest, std::vector<std::string>(all.begin() + static_cast<std::ptrdiff_t>(taken), all.end()));
  }
}

TEST_F(LoaderTest, StateCountsBatchesTaken) {
  const auto loader = Make(60, MakeNumbers);
  EXPECT_EQ(loader->state(), (SamplerState{0, 0}));
  loader->Next();
  EXPECT_EQ(loader->state(), (SamplerState{0, 1}));
  while (loader->Next()) continue;
  EXPECT_EQ(loader->state(), (SamplerState{1, 0}));
}

Example FailSome(const Utterance& utterance, Random& random) {
  const int number = std::stoi(utterance.id.substr(1));
  if (number % 20 == 3) Throw("{}: {} samples, fewer than one frame of 400", utterance.audio_path, number);
  if (number % 50 == 7) Throw("{}: no text to learn", utterance.audio_path);
  return MakeNumbers(utterance, random);
}

TEST_F(LoaderTest, BadUtterancesAreSkippedAndCounted) {
  const std::string path = folder_.Path("exp/skipped.jsonl");
  const auto loader = Make(100, FailSome, {.num_threads = 4}, path);
  for (int epoch = 0; epoch < 2; ++epoch) {
    size_t good = 0;
    while (std::optional<Batch> batch = loader->Next()) {
      EXPECT_FALSE(batch->examples.empty());
      good += batch->examples.size();
    }
    EXPECT_EQ(good, 93U);
  }
  EXPECT_EQ(loader->counts().utterances, 200);
  EXPECT_EQ(loader->counts().skipped, 14);
  EXPECT_EQ(loader->counts().reasons,
            (std::map<std::string, int64_t>{{"# samples, fewer than one frame of #", 10}, {"no text to learn", 4}}));
  std::map<std::string, std::string> reasons;
  std::istringstream lines(ReadFile(path));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_TRUE(reasons.emplace(json["id"], json["reason"]).second) << "twice: " << line;
  }
  EXPECT_EQ(reasons.size(), 7U);
  EXPECT_EQ(reasons["u43"], "/43.wav: 43 samples, fewer than one frame of 400");
  EXPECT_EQ(reasons["u57"], "/57.wav: no text to learn");
}

TEST_F(LoaderTest, SkippedFileSurvivesRunsAndHalfALine) {
  const std::string path = folder_.Path("skipped.jsonl");
  TakeEpochs(*Make(100, FailSome, {}, path), 1);
  const std::string first = ReadFile(path);
  TakeEpochs(*Make(100, FailSome, {}, path), 1);
  EXPECT_EQ(ReadFile(path), first);
  // As a run that was killed leaves it.
  folder_.Write("skipped.jsonl", first.substr(0, first.size() - 10));
  TakeEpochs(*Make(100, FailSome, {}, path), 1);
  EXPECT_EQ(ReadFile(path).find(first.substr(0, first.size() - 10)), 0U);
  EXPECT_GT(ReadFile(path).size(), first.size());
}

TEST_F(LoaderTest, StopsWhenTooManyAreSkippedAndSaysWhy) {
  const MakeExample make = [](const Utterance& utterance, Random& random) -> Example {
    const int number = std::stoi(utterance.id.substr(1));
    if (number % 2 == 0) Throw("{}: no such file", utterance.audio_path);
    if (number % 3 == 0) Throw("{}: no text to learn", utterance.audio_path);
    if (number % 5 == 0) Throw("{}: {} samples", utterance.audio_path, number);
    if (number % 7 == 0) Throw("{}: the rarest", utterance.audio_path);
    return MakeNumbers(utterance, random);
  };
  const auto loader = Make(1000, make, {.max_skipped_share = 0.3}, folder_.Path("skipped.jsonl"));
  const std::string error = ErrorOf([&] { TakeEpochs(*loader, 1); });
  EXPECT_THAT(error, HasSubstr("max_skipped_share allows 30.0 %"));
  EXPECT_THAT(error, testing::ContainsRegex("x 'no such file', [0-9]+ x 'no text to learn', [0-9]+ x '# samples';"));
  EXPECT_THAT(error, testing::Not(HasSubstr("the rarest")));
  EXPECT_THAT(error, HasSubstr("each is named in " + folder_.Path("skipped.jsonl")));
  // Not at the first bad one, and long before the end.
  EXPECT_GE(loader->counts().utterances, 100);
  EXPECT_LT(loader->counts().utterances, 200);
}

TEST_F(LoaderTest, ASmallCorpusIsJudgedAtTheEndOfTheEpoch) {
  const MakeExample fail = [](const Utterance& utterance, Random&) -> Example {
    Throw("{}: no such file", utterance.audio_path);
  };
  const auto loader = Make(5, fail);
  EXPECT_THAT(ErrorOf([&] { loader->Next(); }), HasSubstr("5 of 5 utterances had to be skipped (100.0 %"));
  const auto patient = Make(5, fail, {.max_skipped_share = 1});
  EXPECT_FALSE(patient->Next().has_value());
  EXPECT_EQ(patient->counts().skipped, 5);
}

TEST_F(LoaderTest, OtherExceptionsComeOutOfNext) {
  const MakeExample make = [](const Utterance& utterance, Random& random) -> Example {
    if (utterance.id == "u30") throw LogicError("a mistake");
    return MakeNumbers(utterance, random);
  };
  const auto loader = Make(60, make, {.num_threads = 3});
  EXPECT_THROW(TakeEpochs(*loader, 1), LogicError);
  // What stood behind it goes on.
  const SamplerState state = loader->state();
  const std::optional<Batch> next = loader->Next();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->epoch, state.epoch);
  EXPECT_EQ(next->index, state.position);
}

TEST_F(LoaderTest, EndsAtAnyTime) {
  std::atomic<int> made = 0, running = 0;
  const MakeExample make = [&](const Utterance& utterance, Random& random) {
    ++running;
    Example example = MakeNumbers(utterance, random);
    ++made;
    --running;
    return example;
  };
  for (int taken = 0; taken < 6; ++taken) {
    auto loader = Make(200, make, {.num_threads = 4, .prefetch_batches = 8});
    for (int i = 0; i < taken; ++i) loader->Next();
    loader.reset();
    EXPECT_EQ(running, 0);
  }
  EXPECT_GT(made, 0);
}

TEST_F(LoaderTest, MemoryIsBoundByThePrefetchDepth) {
  std::atomic<int> made = 0;
  const MakeExample make = [&](const Utterance& utterance, Random& random) {
    ++made;
    return MakeNumbers(utterance, random);
  };
  const auto loader = Make(600, make, {.num_threads = 4, .prefetch_batches = 2, .prefetch_across_epochs = false});
  const size_t taken = loader->Next()->examples.size();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_GE(made, static_cast<int>(taken));
  // The batch taken and the two behind it: none has more than 3000 frames of 1 s utterances.
  EXPECT_LE(made, 3 * 30);
}

TEST_F(LoaderTest, AnEvaluationMakesNothingOfTheNextEpoch) {
  std::atomic<int> made = 0;
  const MakeExample make = [&](const Utterance& utterance, Random& random) {
    ++made;
    return MakeNumbers(utterance, random);
  };
  const auto loader = Make(50, make, {.prefetch_batches = 100, .prefetch_across_epochs = false});
  TakeEpochs(*loader, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(made, 50);
}

TEST_F(LoaderTest, ErrorsNameTheKey) {
  EXPECT_THAT(ErrorOf([&] { Make(3, MakeNumbers, {.num_threads = 0}); }), HasSubstr("num_threads is 0"));
  EXPECT_THAT(ErrorOf([&] { Make(3, MakeNumbers, {.prefetch_batches = 0}); }), HasSubstr("prefetch_batches is 0"));
  EXPECT_THAT(ErrorOf([&] { Make(3, MakeNumbers, {.max_skipped_share = 2}); }), HasSubstr("max_skipped_share is 2"));
}

}  // namespace
}  // namespace earshot
