#include "src/train/checkpoint.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "src/base/atomic_file.h"
#include "src/base/error.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kStateFile = "state.json";
constexpr const char* kTensorsFile = "tensors.safetensors";
constexpr const char* kPrefix = "step-";
// Of a checkpoint that is being written.
constexpr const char* kUnfinished = ".unfinished";

// Names sort as steps do.
std::string Name(int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::vector<fs::path> Finished(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name.starts_with(kPrefix) && !name.ends_with(kUnfinished))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

void SaveCheckpoint(const std::string& folder, const RunState& state, const TensorMap& tensors, int keep) {
  const fs::path target = fs::path(folder) / Name(state.step);
  const fs::path unfinished = target.string() + kUnfinished;
  std::error_code error;
  fs::remove_all(unfinished, error);
  // Both files are synced by AtomicFile before the folder gets its name.
  SaveSafetensors((unfinished / kTensorsFile).string(), tensors);
  const json saved = {{"step", state.step},
                      {"skipped_steps", state.skipped_steps},
                      {"sampler", {{"epoch", state.sampler.epoch}, {"position", state.sampler.position}}},
                      {"evaluated", state.evaluated},
                      {"seconds", state.seconds}};
  WriteFileAtomically((unfinished / kStateFile).string(), saved.dump(2) + "\n");
  if (fs::exists(target, error)) {
    // Saved at this step before: the two change places in one step, so that a whole one is always there.
    if (renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) != 0) {
      Throw("{}: cannot be replaced: {}", target.string(), std::strerror(errno));
    }
    fs::remove_all(unfinished, error);
  } else {
    fs::rename(unfinished, target, error);
  }
  if (error) Throw("{}: cannot be renamed to {}: {}", unfinished.string(), target.string(), error.message());
  const std::vector<fs::path> all = Finished(folder);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) fs::remove_all(all[i], error);
}

std::optional<Checkpoint> LoadNewestCheckpoint(const std::string& folder) {
  const std::vector<fs::path> all = Finished(folder);
  if (all.empty()) return std::nullopt;
  Checkpoint checkpoint;
  checkpoint.path = all.back().string();
  const std::string state_path = (all.back() / kStateFile).string();
  try {
    const json saved = json::parse(ReadFile(state_path));
    checkpoint.state.step = saved.at("step");
    checkpoint.state.skipped_steps = saved.at("skipped_steps");
    checkpoint.state.sampler = {saved.at("sampler").at("epoch"), saved.at("sampler").at("position")};
    checkpoint.state.evaluated = saved.at("evaluated").get<std::map<std::string, double>>();
    checkpoint.state.seconds = saved.at("seconds");
  } catch (const json::exception& e) {
    Throw("{}: damaged: {}; remove {} to resume from the checkpoint before it", state_path, e.what(), checkpoint.path);
  }
  checkpoint.tensors = LoadSafetensors((all.back() / kTensorsFile).string()).tensors;
  return checkpoint;
}

}  // namespace earshot
