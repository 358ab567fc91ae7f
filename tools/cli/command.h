// The frame of the program: what every subcommand is made of, and how its errors are told.
//
//   void AddInfo(CLI::App& app) {
//     struct Options { std::string model; };
//     auto options = std::make_shared<Options>();
//     CLI::App* command = app.add_subcommand("info", "What a model folder holds.");
//     command->add_option("MODEL", options->model, "model folder")->required();
//     command->footer(Examples({{"earshot info models/an4", "sizes, options and licence"}}));
//     command->callback([options] { RunInfo(*options); });
//   }
//
// A new subcommand: its file tools/cli/NAME.cc with AddNAME, a line below, and a line in main.cc.
// RunX reports failure by throwing; RunProgram makes one line and exit code 1 of it.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "src/base/first_line.h"

namespace CLI {
class App;
}

namespace earshot {

using AddCommand = void (*)(CLI::App& app);

void AddAlign(CLI::App& app);
void AddAverage(CLI::App& app);
void AddEvaluate(CLI::App& app);
void AddFeatures(CLI::App& app);
void AddInfo(CLI::App& app);
void AddMic(CLI::App& app);
void AddPlot(CLI::App& app);
void AddPrepare(CLI::App& app);
void AddServe(CLI::App& app);
void AddTrain(CLI::App& app);
void AddTranscribe(CLI::App& app);

// Parses the arguments and runs the subcommand they name. Returns the exit code: 0, or 1 after one line
// "earshot: WHAT" on stderr, whatever was thrown. Options of the program itself (--log-level, --quiet)
// may also stand behind the subcommand.
int RunProgram(int argc, const char* const* argv, const std::vector<AddCommand>& commands);

// The footer of a --help: command lines, each with what it does.
std::string Examples(std::initializer_list<std::pair<const char*, const char*>> examples);

// value must be one of allowed; throws Error "OPTION 'VALUE' is not known" with the nearest.
void RequireOneOf(const std::string& option, const std::string& value, const std::vector<std::string>& allowed);

}  // namespace earshot
