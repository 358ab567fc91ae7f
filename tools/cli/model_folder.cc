#include "tools/cli/model_folder.h"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "src/base/error.h"
#include "src/model/device.h"
#include "src/model/precision.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVariable = "EARSHOT_MODEL";
constexpr const char* kShipped = "models/an4";

bool HoldsModel(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "model.safetensors", error);
}

}  // namespace

std::string FindModelFolder(const std::string& given) {
  if (!given.empty()) return given;
  const char* variable = std::getenv(kVariable);
  if (variable && *variable) return variable;
  std::vector<fs::path> folders = {kShipped};
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  // The program is SOURCES/build/PRESET/tools/earshot/earshot.
  if (!error) folders.push_back((program.parent_path() / "../../../.." / kShipped).lexically_normal());
  for (const fs::path& folder : folders) {
    if (HoldsModel(folder)) return folder.string();
  }
  Throw("no model: {} is not here; name a model folder with --model DIR or in ${}, or train one with earshot train",
        kShipped, kVariable);
}

void AddModelOptions(CLI::App& command, ModelArguments& arguments) {
  command.add_option("--model", arguments.folder, "model folder [$EARSHOT_MODEL, models/an4]")->type_name("DIR");
  command.add_option("--device", arguments.device, "cpu, cuda, cuda:N or auto [auto]")->type_name("NAME");
  command
      .add_option("--precision", arguments.precision,
                  "on the CPU: float, bfloat16, int8, or auto: bfloat16 where the CPU has it, else float [auto]")
      ->type_name("NAME");
  command.add_option("--set", arguments.sets, "one key over the model's config.yaml; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
}

void AddLatencyOptions(CLI::App& command, const std::string& latency, LatencyOptions& options) {
  command.add_option("--latency-ms", options.latency_ms, latency)->type_name("MS");
  command
      .add_option(
          "--right-context-ms", options.right_context_ms,
          "of the latency, what is heard behind each chunk before its words are told [seven eighths, up to 480]")
      ->type_name("MS");
  command
      .add_option("--left-context-ms", options.left_context_ms,
                  "what is heard before each chunk [the most that the model was trained with]")
      ->type_name("MS");
}

std::shared_ptr<const AsrModel> LoadModel(const ModelArguments& arguments) {
  const std::string folder = FindModelFolder(arguments.folder);
  const torch::Device place = ParseDevice(arguments.device);
  const std::optional<InferencePrecision> type = ParsePrecision(arguments.precision, place);
  const auto model = AsrModel::Load(folder, place, arguments.sets);
  if (type) model->Prepack(*type);
  return model;
}

}  // namespace earshot
