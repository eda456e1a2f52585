// Whether the preload library came into the program that was started. The loader drops it, without a word,
// where a program has more rights than whoever starts it: set-user-id, file capabilities.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <thread>

namespace kvfold::launch {

// Linux: as /proc says; elsewhere always true. False also where that may not be read.
bool has_library(pid_t program, const std::filesystem::path& library);

// Calls `missing` once, from a thread of its own, if the library is not in the program some seconds after its
// start and the program still runs.
class ActivityWatch {
  public:
    ActivityWatch(pid_t program, std::filesystem::path library, std::function<void()> missing);

  private:
    std::jthread thread_;
};

} // namespace kvfold::launch
