// earshot train: a recipe to a model, resumable at any step.
#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/freed_memory.h"
#include "src/base/log.h"
#include "src/train/recipe.h"
#include "src/train/trainer.h"
#include "tools/cli/command.h"

namespace earshot {
namespace {

struct TrainArguments {
  std::vector<std::string> recipes, sets;
  std::string output, device = "auto";
  bool dump_config = false;
};

std::atomic<bool> g_stop{false};

void RequestStop(int) { g_stop = true; }

void RunTrain(const TrainArguments& arguments) {
  const Recipe recipe = LoadRecipe(arguments.recipes, arguments.sets);
  if (arguments.dump_config) {
    fmt::print("{}", DumpOptions(recipe));
    return;
  }
  if (arguments.output.empty()) Throw("--output DIR is missing: where the run keeps its checkpoints and its model");
  std::signal(SIGINT, RequestStop);
  std::signal(SIGTERM, RequestStop);
  KeepFreedMemory(1 << 30);
  Trainer trainer(recipe, arguments.output, arguments.device);
  const TrainResult result = trainer.Run(g_stop);
  if (!result.model_folder.empty()) fmt::print("{}\n", result.model_folder);
}

}  // namespace

void AddTrain(CLI::App& app) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command =
      app.add_subcommand("train", "Trains a recipe; goes on where the output folder holds a checkpoint.");
  command->add_option("RECIPE", arguments->recipes, "YAML files, later ones over earlier ones")
      ->required()
      ->type_name("");
  command->add_option("-o,--output", arguments->output, "folder of the run")->type_name("DIR");
  command->add_option("--set", arguments->sets, "one key over the recipe, train.epochs=10, say; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--device", arguments->device, "cpu, cuda, cuda:N or auto [auto]")->type_name("NAME");
  command->add_flag("--dump-config", arguments->dump_config, "print the whole recipe with its defaults, and end");
  command->footer(Examples({
      {"earshot train recipes/conformer_ctc_tiny.yaml egs/yesno/yesno.yaml -o exp/yesno",
       "a recipe with a corpus's overrides"},
      {"earshot train recipe.yaml -o exp/run --set train.epochs=10 --set model.encoder.gate.kind=off",
       "with two keys changed"},
      {"earshot train recipe.yaml --dump-config", "every key there is, with its value"},
  }));
  command->callback([arguments] { RunTrain(*arguments); });
}

}  // namespace earshot
