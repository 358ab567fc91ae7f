// What the C library does with memory that is freed.
#pragma once

namespace earshot {

// For the beginning of a program, before its threads: memory that is freed stays with the process, up to 256 MB, and
// pieces of less than 32 MB are taken from there. Without it glibc gives back what lies at the end of the heap whenever
// that exceeds what it has learnt, often 1 MB, and a network's layers fault the same pages in again and again: 7 % of
// the time where frames leave the sequence, so that no two tensors are of the same size. What the environment says
// (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_) is left as it is. Other C libraries: does nothing.
void KeepFreedMemory();

// Gives back what is free now.
void ReturnFreedMemory();

}  // namespace earshot
