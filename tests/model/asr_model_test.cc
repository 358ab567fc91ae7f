#include "src/model/asr_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <utility>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/model/average.h"
#include "src/model/device.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_match.h"
#include "tests/support/tiny_asr_model.h"

namespace earshot {
namespace {

using testing::HasSubstr;
using torch::Tensor;

std::string ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

class AsrModelTest : public testing::Test {
 protected:
  std::shared_ptr<AsrModel> Make(const ModelConfig& config, uint64_t seed = 3) const {
    torch::manual_seed(seed);
    const auto dim = static_cast<size_t>(config.features.fbank.num_mel_bins);
    return std::make_shared<AsrModel>(config, LetterTokenizer(folder_),
                                      GlobalCmvn{std::vector<float>(dim, 11.5F), std::vector<float>(dim, 0.3F)});
  }
  // Log probabilities of the same noise.
  static Tensor Output(const AsrModel& model) {
    const torch::NoGradGuard no_grad;
    Random random(1);
    std::vector<float> samples(9000);
    for (float& s : samples) s = static_cast<float>(0.1 * random.Normal());
    std::vector<float> features = model.Features(samples);
    const auto frames = static_cast<int64_t>(features.size()) / model.extractor()->dim();
    const Tensor x = torch::tensor(features).view({1, frames, -1});
    return model.network().forward(x, torch::tensor({frames}, torch::kInt64)).log_probs;
  }
  std::string LoadErrorAfter(const std::function<void(TensorMap&)>& change) const {
    Make(TinyConfig())->Save(folder_.Path("model"));
    const std::string path = folder_.Path("model/model.safetensors");
    TensorMap tensors = LoadSafetensors(path).tensors;
    change(tensors);
    SaveSafetensors(path, tensors);
    const std::string error = ErrorOf([&] { AsrModel::Load(folder_.Path("model"), torch::kCPU); });
    EXPECT_THAT(error, HasSubstr("model.safetensors"));
    return error;
  }

  TempFolder folder_;
};

TEST_F(AsrModelTest, SavedAndLoadedGivesTheSameOutput) {
  ModelConfig config = TinyConfig();
  config.encoder.num_layers = 2;
  config.encoder.intermediate_layers = {1};
  config.encoder.pattern += "+memory(slots=2,chunk=4)";
  config.ctc.self_conditioning = true;
  const auto model = Make(config);
  model->Save(folder_.Path("model"));
  const auto loaded = AsrModel::Load(folder_.Path("model"), torch::kCPU);
  EXPECT_TRUE(torch::equal(Output(*loaded), Output(*model)));
  EXPECT_EQ(DumpOptions(loaded->config()), DumpOptions(model->config()));
  EXPECT_EQ(loaded->cmvn().mean, model->cmvn().mean);
  EXPECT_EQ(loaded->tokenizer_bytes(), model->tokenizer_bytes());
  EXPECT_EQ(loaded->network().NumParameters(), model->network().NumParameters());
  EXPECT_NEAR(loaded->encoder_frame_s(), 0.04, 1e-9);
  EXPECT_EQ(loaded->config().vocab_size, loaded->tokenizer().Size());
  // Distributions, one for each 40 ms.
  const Tensor out = Output(*model);
  EXPECT_TRUE(TensorsMatch(out.exp().sum(2), torch::ones({1, out.size(1)}), 1e-5));
}

TEST_F(AsrModelTest, PackedWeightsGiveTheSameAndGoWithTheOldOnes) {
  const auto model = Make(TinyConfig());
  const Tensor expected = Output(*model);
  for (const auto& [precision, tolerance] :
       {std::pair(InferencePrecision::kFloat, 1e-4), std::pair(InferencePrecision::kBFloat16, 0.1),
        std::pair(InferencePrecision::kInt8, 0.2)}) {
    model->Prepack(precision);
    EXPECT_TRUE(TensorsMatch(Output(*model), expected, tolerance));
  }
  const auto other = Make(TinyConfig(), 4);
  model->SetWeights(other->Weights(), "other");
  EXPECT_FALSE(model->network().is_training());
  EXPECT_TRUE(torch::equal(Output(*model), Output(*other)));
}

TEST_F(AsrModelTest, StreamsAsTheWhole) {
  const torch::NoGradGuard no_grad;
  ModelConfig config = TinyConfig();
  config.encoder.num_layers = 2;
  config.encoder.intermediate_layers = {1};
  config.ctc.self_conditioning = true;
  const auto model = Make(config);
  const Tensor x = torch::randn({1, 103, 16});
  const Tensor whole = model->network().forward(x, torch::tensor({103}, torch::kInt64)).log_probs;
  EncoderState state = model->network().encoder().StartStream();
  std::vector<Tensor> parts;
  for (int64_t t = 0; t < 103; t += 20)
    parts.push_back(model->network().Stream(x.slice(1, t, t + 20), false, state).log_probs);
  parts.push_back(model->network().Stream({}, true, state).log_probs);
  EXPECT_TRUE(TensorsMatch(torch::cat(parts, 1), whole, 1e-4));
}

TEST_F(AsrModelTest, ThePenaltyMakesBlankLessLikely) {
  const torch::NoGradGuard no_grad;
  ModelConfig config = TinyConfig();
  const Tensor before = Output(*Make(config));
  config.ctc.blank_penalty = 1.5;
  const Tensor after = Output(*Make(config));
  // The odds of blank against another token fall by e^1.5; those of two other tokens stay.
  const auto odds = [](const Tensor& x, int64_t a, int64_t b) { return x.select(2, a) - x.select(2, b); };
  EXPECT_TRUE(TensorsMatch(odds(after, 0, 1), odds(before, 0, 1) - 1.5, 1e-5));
  EXPECT_TRUE(TensorsMatch(odds(after, 2, 1), odds(before, 2, 1), 1e-5));
  EXPECT_TRUE(TensorsMatch(after.exp().sum(2), torch::ones({1, after.size(1)}), 1e-5));
}

TEST_F(AsrModelTest, FramesBelowTheGatesThresholdAreBlank) {
  const torch::NoGradGuard no_grad;
  ModelConfig config = TinyConfig();
  config.encoder.gate.initial_bias = 0;
  const Tensor x = torch::randn({1, 103, 16}), lens = torch::tensor({103}, torch::kInt64);
  const CtcOutput open = Make(config)->network().forward(x, lens);
  // Between two gates, so that rounding decides nothing.
  const Tensor sorted = std::get<0>(open.gate[0].sort());
  config.encoder.gate.threshold = sorted.slice(0, 12, 14).mean().item<double>();
  const auto model = Make(config);
  const CtcOutput out = model->network().forward(x, lens);
  EXPECT_TRUE(torch::equal(out.gate, open.gate));
  int silent = 0;
  for (int64_t t = 0; t < out.gate.size(1); ++t) {
    const bool below = out.gate[0][t].item<double>() < config.encoder.gate.threshold;
    silent += below ? 1 : 0;
    if (below) {
      EXPECT_EQ(out.log_probs[0][t].argmax().item<int64_t>(), 0) << t;
      EXPECT_NEAR(out.log_probs[0][t].exp().sum().item<double>(), 1, 1e-6);
    } else {
      EXPECT_TRUE(torch::equal(out.log_probs[0][t], open.log_probs[0][t])) << t;
    }
  }
  EXPECT_GT(silent, 5);
  EXPECT_LT(silent, 20);
  EncoderState state = model->network().encoder().StartStream();
  std::vector<Tensor> parts = {model->network().Stream(x.slice(1, 0, 50), false, state).log_probs};
  parts.push_back(model->network().Stream(x.slice(1, 50), false, state).log_probs);
  parts.push_back(model->network().Stream({}, true, state).log_probs);
  EXPECT_TRUE(TensorsMatch(torch::cat(parts, 1), out.log_probs, 1e-4));
  // Training sees what the head says.
  model->network().train();
  EXPECT_GT(model->network().forward(x, lens).log_probs.min().item<double>(), -30);
}

TEST_F(AsrModelTest, HalfIsHalfTheSizeAndNearlyTheSame) {
  const auto model = Make(TinyConfig());
  model->Save(folder_.Path("whole"));
  model->Save(folder_.Path("half"), /*half=*/true);
  const auto size = [&](const std::string& name) {
    return static_cast<double>(std::filesystem::file_size(folder_.Path(name + "/model.safetensors")));
  };
  EXPECT_LT(size("half"), 0.75 * size("whole"));  // the header stays as it is
  const auto loaded = AsrModel::Load(folder_.Path("half"), torch::kCPU);
  EXPECT_EQ(loaded->Weights().begin()->second.scalar_type(), torch::kFloat);
  for (const auto& [name, tensor] : model->Weights())
    EXPECT_TRUE(TensorsMatch(loaded->Weights().at(name), tensor, 1e-6, 1e-3)) << name;
  EXPECT_TRUE(TensorsMatch(Output(*loaded), Output(*model), 0.02));
}

TEST_F(AsrModelTest, TensorsThatDoNotFitAreNamed) {
  EXPECT_THAT(LoadErrorAfter([](TensorMap& t) { t.erase("head.bias"); }), HasSubstr("lacks the tensor 'head.bias'"));
  EXPECT_THAT(LoadErrorAfter([](TensorMap& t) { t["head.bais"] = torch::zeros({1}); }),
              HasSubstr("unknown tensor 'head.bais'; did you mean 'head.bias'?"));
  EXPECT_THAT(LoadErrorAfter([](TensorMap& t) {
                t["head.bias"] = torch::zeros({2, 3});
              }),
              HasSubstr("'head.bias' has shape (2, 3), config.yaml asks for ("));
  EXPECT_THAT(LoadErrorAfter([](TensorMap& t) { t["head.bias"] = t["head.bias"].to(torch::kInt64); }),
              HasSubstr("'head.bias' has the wrong type"));
  EXPECT_THAT(LoadErrorAfter([](TensorMap& t) { t.erase("cmvn.mean"); }), HasSubstr("cmvn.mean"));
  EXPECT_THAT(LoadErrorAfter([](TensorMap& t) { t["cmvn.mean"] = torch::zeros({5}); }),
              HasSubstr("cmvn.mean has 5 values for 16 features"));
}

TEST_F(AsrModelTest, FoldersThatAreNotWholeAreNamed) {
  const std::string folder = folder_.Path("model");
  const auto load = [&] { return ErrorOf([&] { AsrModel::Load(folder, torch::kCPU); }); };
  EXPECT_THAT(load(), HasSubstr("no such model folder"));
  for (const char* file : {"config.yaml", "model.safetensors", "tokenizer.model"}) {
    Make(TinyConfig())->Save(folder);
    std::filesystem::remove(folder + "/" + file);
    EXPECT_THAT(load(), HasSubstr(std::string(file) + ": is missing"));
  }
  const std::string training = folder_.Path("training");
  std::filesystem::create_directories(training + "/checkpoints");
  EXPECT_THAT(ErrorOf([&] { AsrModel::Load(training, torch::kCPU); }), HasSubstr("training/model"));
  for (const char* file : {"config.yaml", "model.safetensors", "tokenizer.model"}) {
    Make(TinyConfig())->Save(folder);
    WriteFileAtomically(folder + "/" + file, "{[ nonsense");
    EXPECT_THAT(load(), HasSubstr(file));
  }
  Make(TinyConfig())->Save(folder);
  WriteFileAtomically(folder + "/config.yaml", "encoder:\n  diim: 16\n");
  EXPECT_THAT(load(), testing::AllOf(HasSubstr("config.yaml"), HasSubstr("'dim'")));
  Make(TinyConfig())->Save(folder);
  std::string config = ReadFile(folder + "/config.yaml");
  const size_t at = config.find("vocab_size: ");
  ASSERT_NE(at, std::string::npos);
  WriteFileAtomically(folder + "/config.yaml", config.insert(at + 12, "9"));
  EXPECT_THAT(load(), HasSubstr("vocab_size is 9"));
}

TEST_F(AsrModelTest, AverageIsTheMean) {
  const auto a = Make(TinyConfig(), 1), b = Make(TinyConfig(), 2), c = Make(TinyConfig(), 3);
  const TensorMap mean = AverageWeights({a->Weights(), b->Weights(), c->Weights()}, {"a", "b", "c"});
  ASSERT_EQ(mean.size(), a->Weights().size());
  for (const auto& [name, tensor] : mean) {
    const Tensor expected = (a->Weights().at(name).to(torch::kDouble) + b->Weights().at(name).to(torch::kDouble) +
                             c->Weights().at(name).to(torch::kDouble)) /
                            3;
    EXPECT_TRUE(TensorsMatch(tensor, expected, 1e-7, 1e-6)) << name;
    EXPECT_EQ(tensor.scalar_type(), torch::kFloat);
  }
  a->SetWeights(mean, "mean");
  EXPECT_TRUE(Output(*a).isfinite().all().item<bool>());
}

TEST_F(AsrModelTest, AverageRefusesWhatIsNotOfOneKind) {
  const TensorMap one = {{"x", torch::ones({2})}, {"n", torch::tensor({1}, torch::kInt64)}};
  const auto error = [&](const TensorMap& other) {
    return ErrorOf([&] { AverageWeights({one, other}, {"one", "other"}); });
  };
  EXPECT_EQ(error(one), "no error");
  EXPECT_THAT(error({{"x", one.at("x")}}), HasSubstr("other: lacks the tensor 'n' of one"));
  EXPECT_THAT(error({{"x", torch::ones({3})}, {"n", one.at("n")}}), HasSubstr("'x' has another shape"));
  EXPECT_THAT(error({{"x", one.at("x")}, {"n", torch::tensor({2}, torch::kInt64)}}), HasSubstr("'n' differs"));
  EXPECT_THAT(error({{"x", one.at("x")}, {"n", one.at("n")}, {"y", one.at("x")}}), HasSubstr("3 tensors, one has 2"));
  EXPECT_THAT(ErrorOf([] { AverageWeights({}, {}); }), HasSubstr("no models"));
  EXPECT_THROW(AverageWeights({one}, {}), LogicError);
}

TEST(DeviceTest, NamesAndWhatIsMissing) {
  EXPECT_EQ(ParseDevice("cpu"), torch::Device(torch::kCPU));
  EXPECT_NO_THROW(ParseDevice("auto"));
  EXPECT_THAT(ErrorOf([] { ParseDevice("gpu"); }), HasSubstr("expected cpu, cuda, cuda:N or auto"));
  EXPECT_THAT(ErrorOf([] { ParseDevice("cuda:99"); }), HasSubstr("device 'cuda:99'"));
  EXPECT_THAT(ErrorOf([] { ParseDevice("cuda:"); }), HasSubstr("device 'cuda:'"));
}

}  // namespace
}  // namespace earshot
