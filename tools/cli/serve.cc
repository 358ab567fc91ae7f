// earshot serve: recognition over the network, by the protocols that clients speak already, and a web page.
#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/serve/server.h"
#include "src/stream/service.h"
#include "tools/cli/command.h"
#include "tools/cli/model_folder.h"

namespace earshot {
namespace {

namespace fs = std::filesystem;

struct ServeArguments {
  ModelArguments model;
  ServerOptions server;
  ServiceOptions service;
  std::vector<std::string> token_files;
};

// One token a line; blank lines and those that begin with # are none.
void ReadTokens(const std::string& path, std::vector<std::string>& tokens) {
  std::ifstream file(path);
  if (!file) Throw("--token-file {}: cannot be read", path);
  const size_t before = tokens.size();
  for (std::string line; std::getline(file, line);) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    tokens.push_back(line.substr(begin, line.find_last_not_of(" \t\r") + 1 - begin));
  }
  // An empty file that let everybody in would be a trap.
  if (tokens.size() == before) Throw("--token-file {}: holds no token", path);
}

// Where nothing else is said the environment has the token: arguments can be read by everybody on the machine.
void AddTokens(ServeArguments& arguments) {
  for (const std::string& path : arguments.token_files) ReadTokens(path, arguments.server.tokens);
  const char* variable = std::getenv("EARSHOT_TOKEN");
  if (variable && *variable) arguments.server.tokens.emplace_back(variable);
}

// The folder's own name is what clients ask for.
std::string ModelName(const std::string& folder) {
  std::error_code error;
  const std::string name = fs::canonical(folder, error).filename().string();
  return error || name.empty() ? "earshot" : name;
}

// Each connection is a descriptor, and systems begin with few.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Streams that are computed together bring matrices of ever new heights, and for each oneDNN (and libtorch's layer
// round it) keeps a program that it has written: 1024 of them by default, 600 MB. So many as a busy minute needs are
// enough. Before the first of them is made; what the user has set stays.
void LimitPrograms() {
  for (const char* variable : {"LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}) setenv(variable, "256", 0);
}

// malloc learns to keep ever larger blocks in its heaps, where a program that stays pins what was freed round it: 30 MB
// and more after some thousand streams. Blocks of 1 MB and more stay out of them instead.
void KeepLargeBlocksApart() {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

void RunServe(ServeArguments arguments) {
  LimitPrograms();
  KeepLargeBlocksApart();
  AddTokens(arguments);
  if (arguments.server.cert.empty() != arguments.server.key.empty())
    Throw("{} is given without {}; TLS needs both", arguments.server.cert.empty() ? "--key" : "--cert",
          arguments.server.cert.empty() ? "--cert" : "--key");
  arguments.server.Validate();
  arguments.model.folder = FindModelFolder(arguments.model.folder);
  arguments.service.name = ModelName(arguments.model.folder);
  arguments.service.Validate();
  RaiseDescriptorLimit();
  // A reader of stdout that went away is no reason to end.
  std::signal(SIGPIPE, SIG_IGN);

  const auto service = MakeRecognitionService(LoadModel(arguments.model), arguments.service);
  Server server(arguments.server, *service);
  const std::string wyoming = server.wyoming_port() < 0
                                  ? std::string()
                                  : fmt::format(", Wyoming at {}:{}", arguments.server.host, server.wyoming_port());
  server.Run([&] {
    fmt::print("listening on {}{}\n", server.url(), wyoming);
    std::fflush(stdout);
  });
}

void AddServerOptions(CLI::App& command, ServerOptions& options) {
  command.add_option("--host", options.host, "address to listen at; 0.0.0.0: every network [127.0.0.1]")
      ->type_name("ADDRESS");
  command.add_option("--port", options.port, "port; 0: any that is free [8080]")->type_name("N");
  command.add_option("--wyoming-port", options.wyoming_port, "port of the Wyoming protocol; 0: any [not served]")
      ->type_name("N");
  command.add_option("--cert", options.cert, "certificate and its chain in PEM form, for TLS")->type_name("FILE");
  command.add_option("--key", options.key, "its private key")->type_name("FILE");
  command.add_option("--token", options.tokens, "a bearer token that lets in; may be repeated [$EARSHOT_TOKEN]")
      ->type_name("TOKEN")
      ->take_all()
      ->allow_extra_args(false);
  command
      .add_option("--allow-origin", options.allow_origins,
                  "a web page elsewhere that may use the server, https://example.org, or *; may be repeated")
      ->type_name("ORIGIN")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--io-threads", options.io_threads, "threads for the network; none waits for the model [2]")
      ->type_name("N");
  command.add_option("--max-connections", options.max_connections, "open connections [1024]")->type_name("N");
  command.add_option("--drain-seconds", options.drain_s, "time for last words at SIGTERM or Ctrl-C [10]")
      ->type_name("S");
}

}  // namespace

void AddServe(CLI::App& app) {
  auto arguments = std::make_shared<ServeArguments>();
  CLI::App* command =
      app.add_subcommand("serve", "A server: OpenAI's, Vosk's and Wyoming's protocols, and a web page.");
  AddModelOptions(*command, arguments->model);
  AddServerOptions(*command, arguments->server);
  command->add_option("--token-file", arguments->token_files, "a file with a token a line; may be repeated")
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  AddLatencyOptions(*command, "how long a sound may wait for its word [320, where the model was trained in chunks]",
                    arguments->service.latency);
  command->add_option("--threads", arguments->service.threads, "threads that compute live streams [the cores]")
      ->type_name("N");
  command->add_option("--max-streams", arguments->service.max_streams, "live streams at a time [100]")->type_name("N");
  command->add_option("--language", arguments->service.language, "the language that the model knows [en]")
      ->type_name("CODE");
  command->footer(Examples({
      {"earshot serve", "http://127.0.0.1:8080: a page that listens to the microphone, and all protocols"},
      {"curl -F file=@talk.mp3 http://127.0.0.1:8080/v1/audio/transcriptions",
       "a recording, as OpenAI's clients send it"},
      {"EARSHOT_TOKEN=secret earshot serve --host 0.0.0.0 --cert cert.pem --key key.pem", "for a network"},
      {"earshot serve --wyoming-port 10300", "also for Home Assistant"},
  }));
  command->callback([arguments] { RunServe(*arguments); });
}

}  // namespace earshot
