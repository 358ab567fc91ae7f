// Which model a command uses: the one that is named, or the one that is at hand.
#pragma once

#include <memory>
#include <string>

#include "src/model/asr_model.h"

namespace earshot {

// given, unless it is empty; then $EARSHOT_MODEL, models/an4 of the working directory, or that of the source tree which
// the program was built in. Throws Error that says how to name one when there is none.
std::string FindModelFolder(const std::string& given);

// The model of FindModelFolder(given) on a device by name (see ParseDevice), to compute in a precision by name (see
// ParsePrecision).
std::shared_ptr<const AsrModel> LoadModel(const std::string& given, const std::string& device,
                                          const std::string& precision);

}  // namespace earshot
