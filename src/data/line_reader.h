// The lines of a text file, plain or gzipped, with their numbers for errors.
//
//   LineReader reader(path);
//   while (reader.Next(line)) if (bad) Throw("{}: ...", reader.Where());   // "cuts.jsonl.gz:17"
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace earshot {

class LineReader {
 public:
  // Throws Error when the file cannot be read.
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // The next line, without its end ("\n" or "\r\n") and a byte order mark; false at the end of the file.
  // Throws Error when the file is damaged.
  bool Next(std::string& line);
  // "path:line" of the line last read.
  std::string Where() const;
  int64_t line_number() const { return line_number_; }

 private:
  struct File;
  std::unique_ptr<File> file_;
  std::string path_;
  int64_t line_number_ = 0;
};

}  // namespace earshot
