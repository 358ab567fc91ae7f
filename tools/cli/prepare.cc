// earshot prepare: a corpus as it is downloaded -> manifests.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/data/prepare.h"
#include "tools/cli/command.h"

namespace earshot {
namespace {

struct PrepareArguments {
  std::string corpus, source_dir, output_dir;
  bool list = false;
};

void PrintCorpora() {
  for (const CorpusPreparer& corpus : Corpora())
    fmt::print("{}\n    {}\n    {}\n", corpus.name, corpus.description, corpus.home);
}

void RunPrepare(const PrepareArguments& arguments) {
  if (arguments.list) {
    PrintCorpora();
    return;
  }
  if (arguments.corpus.empty()) Throw("prepare: expected CORPUS and DIR; earshot prepare --list names the corpora");
  std::vector<std::string> names;
  for (const CorpusPreparer& corpus : Corpora()) names.push_back(corpus.name);
  RequireOneOf("corpus", arguments.corpus, names);
  if (arguments.source_dir.empty())
    Throw("prepare {}: expected DIR, where it was downloaded to; earshot prepare --list says where from",
          arguments.corpus);
  PrepareCorpus(arguments.corpus, arguments.source_dir,
                arguments.output_dir.empty() ? "data/" + arguments.corpus : arguments.output_dir);
}

}  // namespace

void AddPrepare(CLI::App& app) {
  auto arguments = std::make_shared<PrepareArguments>();
  CLI::App* command = app.add_subcommand("prepare", "Makes manifests of a corpus as it is downloaded.");
  command->add_option("CORPUS", arguments->corpus, "its name: see --list")->type_name("");
  command->add_option("DIR", arguments->source_dir, "the folder it was downloaded or unpacked to")->type_name("");
  command
      ->add_option("-o,--output-dir", arguments->output_dir,
                   "where train.jsonl, dev.jsonl and test.jsonl go [data/CORPUS]")
      ->type_name("DIR");
  command->add_flag("--list", arguments->list, "the corpora known, and where to download them");
  command->footer(Examples({
      {"earshot prepare --list", "the corpora, with their homes"},
      {"earshot prepare an4 downloads/an4", "data/an4/train.jsonl, dev.jsonl and test.jsonl"},
      {"earshot prepare yesno waves_yesno -o exp/data", "into another folder"},
  }));
  command->callback([arguments] { RunPrepare(*arguments); });
}

}  // namespace earshot
