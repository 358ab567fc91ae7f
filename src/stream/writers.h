// A transcript as text for people and programs: plain text, JSON, subtitles, NIST's CTM.
//
//   const OutputFormat format = ParseOutputFormat("srt");
//   WriteFileAtomically(stem + Extension(format), FormatTranscript(transcript, format, stem));
//
//   txt   the text, one line
//   json  name, text, duration, and segments with start, end, text, words (word, start, end, confidence)
//   srt   SubRip: numbered cues, 00:00:01,234 --> 00:00:02,345
//   vtt   WebVTT: the same with 00:00:01.234, for browsers
//   ctm   one word a line: NAME 1 START DURATION WORD CONFIDENCE, for sclite
//
// All are UTF-8 and end in a newline; bytes that are no UTF-8 become U+FFFD. Times are in seconds but for
// subtitles, to the millisecond. A transcript without words gives a valid file without words (an srt of
// no cues is empty). Free functions, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "src/base/options.h"
#include "src/decode/speech_segments.h"
#include "src/decode/transcript.h"
#include "src/stream/segmenter.h"

namespace earshot {

enum class OutputFormat { kTxt, kJson, kSrt, kVtt, kCtm };

// "txt", "json", "srt", "vtt" or "ctm"; throws Error that names the nearest for any other.
OutputFormat ParseOutputFormat(const std::string& name);

// ".srt" and so on.
std::string Extension(OutputFormat format);

struct SubtitleOptions {
  // What fits one cue; a segment that does not is split at words.
  SegmenterOptions cue{};
  // A cue stands at least this long, in seconds: what flashes up for less is seen but not read. Where
  // the next would begin too early for that, it begins later; cues never overlap.
  double min_duration_s = 0.8;

  void Visit(OptionVisitor& v);
  // Throws Error that names the key.
  void Validate() const;
};

// name: the recording's, for json and ctm (there with '_' for blanks, which would end the field).
std::string FormatTranscript(const Transcript& transcript, OutputFormat format, const std::string& name,
                             const SubtitleOptions& options = {});

// Where speech is:
//
//   rttm  NIST's: SPEAKER NAME 1 START DURATION <NA> <NA> speech <NA> <NA>, a line for each segment
//   json  name, duration, and segments with start and end
enum class SpeechFormat { kRttm, kJson };

// "rttm" or "json"; throws Error for any other.
SpeechFormat ParseSpeechFormat(const std::string& name);
std::string Extension(SpeechFormat format);
std::string FormatSpeech(const std::vector<SpeechSegment>& segments, double duration_s, SpeechFormat format,
                         const std::string& name);

}  // namespace earshot
