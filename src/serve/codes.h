// Small codes of the protocols: base64 and identifiers.
//
//   std::optional<std::string> bytes = DecodeBase64("aGk=");   // "hi"; nothing where it is no base64
//   std::string id = NewId("item_");                           // "item_" and 24 random hexadecimal digits
//
// Thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace earshot {

// RFC 4648, with padding, without line breaks.
std::optional<std::string> DecodeBase64(std::string_view text);
std::string EncodeBase64(std::string_view bytes);

std::string NewId(std::string_view prefix);

// The 32 bytes of SHA-256.
std::string Sha256(std::string_view bytes);
// Whether two texts of equal length are equal, in a time that does not tell where they differ.
bool EqualInConstantTime(std::string_view a, std::string_view b);

}  // namespace earshot
