// A recording that a client sent, on disk for as long as it is transcribed.
//
//   UploadedFile file(folder, "My talk.MP3", 100 << 20);     // FOLDER/earshot-x8Ih2f.mp3, mode 600
//   file.Append(bytes);
//   file.Finish();
//   service.Transcribe(file.path(), ...);
//
// The destructor removes it, in every case. Of the client's name only the ending is kept, and of that only letters and
// digits: it never is a path. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace earshot {

class UploadedFile {
 public:
  // folder empty: $TMPDIR, or /tmp. Throws Error when it cannot be made.
  UploadedFile(const std::string& folder, std::string_view client_name);
  ~UploadedFile();
  UploadedFile(const UploadedFile&) = delete;
  UploadedFile& operator=(const UploadedFile&) = delete;

  // Throws Error when the disk is full.
  void Append(std::string_view bytes);
  void Finish();

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

}  // namespace earshot
