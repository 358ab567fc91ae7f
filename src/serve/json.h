// JSON as it comes from a network, which may hold anything, and as it goes out.
//
//   const Json message = ParseJsonObject(text);                       // throws Error: what is wrong
//   const double rate = NumberOr(message, "sample_rate", 16000);      // throws Error where it is no number
//   host.Send(ToText({{"type", "error"}, {"message", what}}));
//
// Free functions, thread-safe.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "src/decode/transcript.h"

namespace earshot {

// Keys keep the order in which they were written.
using Json = nlohmann::ordered_json;

// An object, of at most 32 levels. Throws Error.
Json ParseJsonObject(std::string_view text);

// The value of a key; the other one where the key is missing or null. Throws Error that names the key.
std::string TextOr(const Json& object, const char* key, const std::string& otherwise);
double NumberOr(const Json& object, const char* key, double otherwise);
bool FlagOr(const Json& object, const char* key, bool otherwise);
// An object; an empty one where the key is missing or null. Throws Error that names the key.
Json ObjectOr(const Json& object, const char* key);

// One line of valid UTF-8; bytes that are none become U+FFFD.
std::string ToText(const Json& json);

// To the millisecond, as all times go out.
double Milliseconds(double seconds);
// {word, start, end, confidence}
Json WordJson(const Word& word);
Json WordsJson(const std::vector<Word>& words);

// The words of words[begin, end) with one space between.
std::string JoinWords(const std::vector<Word>& words, size_t begin, size_t end);
// The texts of segments with one space between.
std::string JoinSegments(const std::vector<Segment>& segments);
// Puts a space between them, where both hold something.
void AppendText(std::string& text, const std::string& more);

}  // namespace earshot
