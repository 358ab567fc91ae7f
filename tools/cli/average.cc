// earshot average: the mean of the weights of several models of one training run.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/options.h"
#include "src/model/asr_model.h"
#include "src/model/average.h"
#include "tools/cli/command.h"

namespace earshot {
namespace {

struct AverageArguments {
  std::vector<std::string> models;
  std::string output;
  bool half = false;
};

void RunAverage(const AverageArguments& arguments) {
  std::shared_ptr<AsrModel> mean;
  std::vector<TensorMap> weights;
  for (const std::string& folder : arguments.models) {
    const auto model = AsrModel::Load(folder, torch::kCPU);
    if (!mean) mean = model;
    if (DumpOptions(model->config()) != DumpOptions(mean->config()))
      Throw("{}: its config.yaml differs from that of {}; only models of one kind can be averaged", folder,
            arguments.models.front());
    if (model->tokenizer_bytes() != mean->tokenizer_bytes())
      Throw("{}: its tokenizer.model differs from that of {}, so their outputs mean different tokens", folder,
            arguments.models.front());
    weights.push_back(model->Weights());
  }
  mean->SetWeights(AverageWeights(weights, arguments.models), "average");
  mean->Save(arguments.output, arguments.half);
  LogInfo("{}: the mean of {} models", arguments.output, arguments.models.size());
}

}  // namespace

void AddAverage(CLI::App& app) {
  auto arguments = std::make_shared<AverageArguments>();
  CLI::App* command = app.add_subcommand("average", "The mean of the weights of several models.");
  command->add_option("MODEL", arguments->models, "model folders, of one configuration and tokenizer")
      ->type_name("")
      ->required();
  command->add_option("-o,--output", arguments->output, "model folder of the mean")->type_name("DIR")->required();
  command->add_flag("--half", arguments->half, "store the weights in 16 bits, to ship them");
  command->footer(Examples({
      {"earshot average -o exp/an4/mean exp/an4/models/epoch-0009*", "often better than each of them"},
      {"earshot average --half -o models/an4 exp/an4/model", "one model, in half the bytes"},
  }));
  command->callback([arguments] { RunAverage(*arguments); });
}

}  // namespace earshot
