// Which model a command uses: the one that is named, or the one that is at hand.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "src/model/asr_model.h"
#include "src/model/latency.h"

namespace earshot {

// The model of a command, and how it is to compute.
struct ModelArguments {
  std::string folder, device = "auto", precision = "auto";
  // Keys over the model's config.yaml, "encoder.skip.from_layer=2".
  std::vector<std::string> sets;
};

// --model, --device, --precision, --set.
void AddModelOptions(CLI::App& command, ModelArguments& arguments);

// --latency-ms, --right-context-ms, --left-context-ms; `latency` says what the first is, and its default.
void AddLatencyOptions(CLI::App& command, const std::string& latency, LatencyOptions& options);

// given, unless it is empty; then $EARSHOT_MODEL, models/an4 of the working directory, or that of the source tree which
// the program was built in. Throws Error that says how to name one when there is none.
std::string FindModelFolder(const std::string& given);

// The model of FindModelFolder(arguments.folder) on a device by name (see ParseDevice), to compute in a precision by
// name (see ParsePrecision).
std::shared_ptr<const AsrModel> LoadModel(const ModelArguments& arguments);

}  // namespace earshot
