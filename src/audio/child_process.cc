#include "src/audio/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "src/base/error.h"

extern char** environ;

namespace earshot {
namespace {

constexpr size_t kKeptErrors = 2000;

struct Pipe {
  UniqueFd read, write;
};

// Both ends close on exec, and stand above 2, so that dup2 onto 0, 1 and 2 in the child overwrites neither.
Pipe MakePipe() {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) != 0) Throw("no pipe to a child process: {}", std::strerror(errno));
  const UniqueFd read(ends[0]), write(ends[1]);
  Pipe pipe{UniqueFd(fcntl(ends[0], F_DUPFD_CLOEXEC, 3)), UniqueFd(fcntl(ends[1], F_DUPFD_CLOEXEC, 3))};
  if (pipe.read.get() < 0 || pipe.write.get() < 0) Throw("no pipe to a child process: {}", std::strerror(errno));
  return pipe;
}

// The C structs of posix_spawn, with destructors.
struct SpawnSettings {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  SpawnSettings() {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    // Signals that this program blocks or ignores are none of the child's business.
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigaddset(&signals, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
};

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& argv, int input) : program_(argv.at(0)) {
  Pipe output = MakePipe();
  Pipe errors = MakePipe();
  // A full pipe of complaints must never stop the child: it loses the line instead.
  fcntl(errors.write.get(), F_SETFL, O_NONBLOCK);
  fcntl(errors.read.get(), F_SETFL, O_NONBLOCK);

  SpawnSettings settings;
  if (input >= 0)
    posix_spawn_file_actions_adddup2(&settings.files, input, STDIN_FILENO);
  else
    posix_spawn_file_actions_addopen(&settings.files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&settings.files, output.write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&settings.files, errors.write.get(), STDERR_FILENO);

  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const int result =
      posix_spawnp(&pid_, program_.c_str(), &settings.files, &settings.attributes, arguments.data(), environ);
  if (result != 0) {
    pid_ = -1;
    if (result == ENOENT)
      Throw("the program '{}' is not in PATH; install it (Debian, Ubuntu: apt install ffmpeg)", program_);
    Throw("the program '{}' cannot be started: {}", program_, std::strerror(result));
  }
  output_ = std::move(output.read);
  error_pipe_ = std::move(errors.read);
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string ChildProcess::ReadOutput() {
  std::string content;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = read(output_.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return content;
    content.append(buffer.data(), static_cast<size_t>(n));
  }
}

void ChildProcess::DrainErrors() {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = read(error_pipe_.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    errors_.append(buffer.data(), static_cast<size_t>(n));
    if (errors_.size() > kKeptErrors) errors_.erase(0, errors_.size() - kKeptErrors);
  }
}

bool ChildProcess::Wait() {
  if (pid_ >= 0) {
    output_.Reset();
    while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    DrainErrors();
  }
  return WIFEXITED(status_) && WEXITSTATUS(status_) == 0;
}

std::string ChildProcess::LastWords() const {
  std::string line;
  for (const char c : errors_) {
    if (c != '\n')
      line += c;
    else if (!line.ends_with("; "))
      line += "; ";
  }
  while (line.ends_with("; ")) line.resize(line.size() - 2);
  if (!line.empty()) return line;
  if (WIFSIGNALED(status_)) return fmt::format("{} was ended by signal {}", program_, WTERMSIG(status_));
  return fmt::format("{} ended with exit code {} and said nothing", program_, WEXITSTATUS(status_));
}

}  // namespace earshot
