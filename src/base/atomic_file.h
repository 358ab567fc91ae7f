// Files that are either whole or not there: written beside, synced, renamed.
//
//   WriteFileAtomically("exp/checkpoint/state.json", bytes);
//
//   AtomicFile file("exp/model.safetensors");
//   file.stream().write(...);
//   file.Commit();   // without it, nothing remains
#pragma once

#include <fstream>
#include <string>
#include <string_view>

namespace earshot {

class AtomicFile {
 public:
  // Opens PATH.tmp-PID beside the target; makes missing folders. Throws Error when it cannot be written.
  explicit AtomicFile(std::string path);
  // Without Commit(): removes what was written.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  std::ostream& stream() { return stream_; }
  // Flushes, fsyncs, renames over the target, fsyncs the folder. Throws Error (a full disk, say).
  void Commit();

 private:
  std::string path_;
  std::string temporary_;
  std::ofstream stream_;
  bool committed_ = false;
};

void WriteFileAtomically(const std::string& path, std::string_view content);

// The whole file. Throws Error when it cannot be read.
std::string ReadFile(const std::string& path);

}  // namespace earshot
