// What becomes of memory that a program frees.
#pragma once

#include <cstdint>

namespace earshot {

// Up to about so many bytes stay with the process from now on, so that pages which are soon asked for again need not be
// cleared every time: some 7 % of a step of training, and of recognition 3 to 8 %. By itself malloc gives back what is
// large, and takes it again. Does nothing where malloc is not glibc's.
void KeepFreedMemory(int64_t bytes);

}  // namespace earshot
