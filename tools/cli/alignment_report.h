// Reference and hypothesis one above the other, word by word, as sclite's "pra" files have them:
//
//   an406-fcaw-b  2 errors of 4 words
//   REF: RUBOUT G * M    SEVEN
//   HYP: RUBOUT G N ECHO SEVEN
//                 I S
//
// S: substituted, D: deleted, I: inserted. Rows of long utterances are broken.
#pragma once

#include <span>
#include <string>

namespace earshot {

struct ReportedUtterance {
  std::string id;
  std::string reference, hypothesis;
};

std::string FormatAlignment(const ReportedUtterance& utterance);

// All of them, those with the most errors first, whole or not at all. Throws Error when it cannot be written.
void WriteAlignmentReport(const std::string& path, std::span<const ReportedUtterance> utterances);

}  // namespace earshot
