#include "tools/cli/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <new>
#include <string_view>
#include <system_error>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/nearest.h"
#include "src/base/progress_bar.h"

namespace earshot {
namespace {

// "--name" and "-n" of every option of an app.
void AppendOptionNames(const CLI::App& app, std::vector<std::string>& names) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
}

std::string HelpOf(const CLI::App& app) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  return parsed.empty() ? "earshot --help" : fmt::format("earshot {} --help", parsed.front()->get_name());
}

// What is wrong with the command line, in one line. What is not known comes first: a mistyped option
// also leaves the right one missing, and that would be the puzzling message of the two.
std::string UsageError(const CLI::App& app, const CLI::ParseError& e) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const std::vector<std::string> unknown = app.remaining(true);
  const auto option = std::find_if(unknown.begin(), unknown.end(), [](const std::string& argument) {
    return argument.size() > 1 && argument[0] == '-' && argument != "--";
  });
  if (option != unknown.end()) {
    const std::string name = option->substr(0, option->find('='));
    std::vector<std::string> names;
    AppendOptionNames(app, names);
    if (!parsed.empty()) AppendOptionNames(*parsed.front(), names);
    const std::string nearest = Nearest(name, names);
    return fmt::format("option '{}' is not known; {}", name,
                       nearest.empty() ? "see " + HelpOf(app) : fmt::format("did you mean '{}'?", nearest));
  }
  if (parsed.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
    if (unknown.empty()) return fmt::format("expected a command: {}; see earshot --help", fmt::join(names, ", "));
    return fmt::format("command '{}' is not known{}", unknown.front(), Suggestion(unknown.front(), names));
  }
  if (!unknown.empty())
    return fmt::format("{}: argument '{}' is one too many; see {}", parsed.front()->get_name(), unknown.front(),
                       HelpOf(app));
  return fmt::format("{}: {}; see {}", parsed.front()->get_name(), FirstLine(e), HelpOf(app));
}

constexpr const char* kOutOfMemory = "out of memory; a smaller network, smaller batches or fewer threads need less";

int Fail(std::string_view what) {
  ProgressBar::Clear();
  fmt::print(stderr, "earshot: {}\n", what);
  return 1;
}

}  // namespace

int RunProgram(int argc, const char* const* argv, const std::vector<AddCommand>& commands) {
  CLI::App app("Earshot: speech recognition with hybrid attention.", "earshot");
  try {
    app.set_version_flag("--version", "earshot " EARSHOT_VERSION);
    app.add_option_function<std::string>("--log-level", SetLogLevel, "debug, info, warning, error or off [info]")
        ->type_name("LEVEL");
    app.add_flag_callback(
        "-q,--quiet",
        [] {
          SetLogLevel("warning");
          ProgressBar::SetEnabled(false);
        },
        "no progress bar, and of the log only warnings");
    for (const AddCommand add : commands) add(app);
    for (CLI::App* command : app.get_subcommands({})) command->fallthrough();
    app.require_subcommand(1);
    app.get_formatter()->column_width(34);
    app.footer("earshot COMMAND --help shows a command's options and examples.");
    app.parse(argc, argv);
    // What was printed may not have arrived: a full disk behind a redirection.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return Fail("standard output cannot be written");
    return 0;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return Fail(UsageError(app, e));
  } catch (const Error& e) {
    return Fail(e.what());
  } catch (const std::system_error& e) {  // of the file system, or of standard output: a full disk, say
    return Fail(FirstLine(e));
  } catch (const std::bad_alloc&) {
    return Fail(kOutOfMemory);
  } catch (const std::exception& e) {
    const std::string what = FirstLine(e);
    if (what.find("can't allocate memory") != std::string::npos || what.find("out of memory") != std::string::npos)
      return Fail(kOutOfMemory);
    return Fail(fmt::format("internal error: {}; please report it, with the command line", what));
  } catch (...) {
    return Fail("internal error of an unknown kind; please report it, with the command line");
  }
}

std::string Examples(std::initializer_list<std::pair<const char*, const char*>> examples) {
  std::string footer = "Examples:\n";
  for (const auto& [line, what] : examples) footer += fmt::format("  {}\n      {}\n", line, what);
  footer.pop_back();
  return footer;
}

void RequireOneOf(const std::string& option, const std::string& value, const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end())
    Throw("{} '{}' is not known{}", option, value, Suggestion(value, allowed));
}

}  // namespace earshot
