// A program run beside this one, its standard output read through a pipe. No shell is involved: every argument
// arrives as it is, whatever characters it holds.
//
//   ChildProcess child({"ffprobe", "-v", "error", name});
//   ... read(child.output(), ...) until 0 ...
//   if (!child.Wait()) Throw("ffprobe: {}", child.LastWords());
//
// The destructor kills and reaps the child, so one that is not read to its end leaves nothing behind. The child has a
// process group of its own: Ctrl-C reaches this program, which then decides. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "src/audio/unique_fd.h"

namespace earshot {

class ChildProcess {
 public:
  // argv[0] is looked for in PATH. input: the descriptor that becomes its standard input; -1: /dev/null.
  // Throws Error when there is no such program, or no more processes or descriptors.
  explicit ChildProcess(const std::vector<std::string>& argv, int input = -1);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The read end of its standard output.
  int output() const { return output_.get(); }
  // All that it still writes to standard output.
  std::string ReadOutput();

  // Takes in what the child wrote on standard error so far, without waiting. The child never waits for this: what
  // does not fit the pipe (64 KiB) between two calls is dropped there.
  void DrainErrors();
  // Closes output() and waits for the end. true: exit code 0.
  bool Wait();
  // Its last 2,000 characters on standard error, on one line; where it was silent, how it ended. After Wait().
  std::string LastWords() const;
  // It wrote something on standard error.
  bool Complained() const { return !errors_.empty(); }

 private:
  std::string program_;
  pid_t pid_ = -1;
  int status_ = 0;
  UniqueFd output_, error_pipe_;
  std::string errors_;
};

}  // namespace earshot
