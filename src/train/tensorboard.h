// TensorBoard event files, written without TensorBoard.
//
//   EventWriter events("exp/an4/tensorboard");
//   events.Scalar("train/loss", step, loss);
//   events.Text("config", 0, DumpOptions(options));
//   events.Flush();   // TensorBoard sees what is flushed; the destructor flushes too
//
// Every writer opens a file of its own in the folder, and TensorBoard joins them; a resumed run calls
// Resume() first. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace earshot {

class EventWriter {
 public:
  // Makes the folder and events.out.tfevents.SECONDS.HOST.PID.COUNT in it. Throws Error when it cannot.
  explicit EventWriter(const std::string& folder);
  // Flushes; what fails then is lost without a word, so call Flush() where it matters.
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  // One point of the curve `tag`; a slash groups tags. Stored as float, NaN and infinity included.
  void Scalar(const std::string& tag, int64_t step, double value);

  // Text, shown as Markdown.
  void Text(const std::string& tag, int64_t step, const std::string& text);

  // The run goes on from a checkpoint: TensorBoard drops the points from `step` on that the folder's
  // older files hold, which the run before wrote between its last checkpoint and its end.
  void Resume(int64_t step);

  // Hands all events to the operating system. Throws Error when that fails (a full disk, say).
  void Flush();

  const std::string& path() const { return path_; }

 private:
  void WriteRecord(std::string_view event);

  std::string path_;
  std::ofstream stream_;
};

// CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected; RFC 3720, appendix B.4): what TFRecord files
// guard their records with.
uint32_t Crc32c(std::string_view bytes);

}  // namespace earshot
