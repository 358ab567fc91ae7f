// The nearest spelling: for errors that name what was probably meant.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace earshot {

// Edits (insert, delete, replace, swap of neighbours) from a to b.
size_t EditDistance(std::string_view a, std::string_view b);

// The candidate with the fewest edits, or empty when none is near (over a third of the longer word).
std::string Nearest(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean 'x'?" or, when nothing is near, "; expected one of: a, b, c"; empty where they are many.
std::string Suggestion(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace earshot
