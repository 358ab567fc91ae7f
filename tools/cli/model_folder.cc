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

std::shared_ptr<const AsrModel> LoadModel(const std::string& given, const std::string& device,
                                          const std::string& precision) {
  const std::string folder = FindModelFolder(given);
  const torch::Device place = ParseDevice(device);
  const std::optional<InferencePrecision> type = ParsePrecision(precision, place);
  const auto model = AsrModel::Load(folder, place);
  if (type) model->Prepack(*type);
  return model;
}

}  // namespace earshot
