// How the process that folds gives memory back. A fold takes and frees hundreds of megabytes in blocks of
// some hundred kilobytes, between which blocks stay that live longer.
#pragma once

namespace kvfold::preload {

// Large blocks go back to the system as soon as they are freed. glibc starts out so, and stops when it sees
// the first of them freed: a server that folded for ten minutes then held 738 MiB at rest, and 535 MiB after
// the first three. Whoever set MALLOC_MMAP_THRESHOLD_ or a tunable for it has the last word.
void return_large_blocks();

// Each fold has a thread of its own, and glibc keeps what a thread has freed for threads to come: a server
// that folds all day would seem to leak.
void give_memory_back();

} // namespace kvfold::preload
