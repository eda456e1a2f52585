#include "launch/activity.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>

namespace kvfold::launch {

namespace {

constexpr std::chrono::seconds kPatience{3}; // the loader takes milliseconds, on a busy machine more
constexpr std::chrono::milliseconds kPause{50};

} // namespace

bool has_library(pid_t program, const std::filesystem::path& library) {
#ifdef __linux__
    std::ifstream maps("/proc/" + std::to_string(program) + "/maps");
    std::error_code error;
    const std::string name = std::filesystem::weakly_canonical(library, error).string();
    for (std::string line; std::getline(maps, line);)
        if (line.ends_with(name)) return true;
    return false;
#else
    (void)program, (void)library;
    return true;
#endif
}

ActivityWatch::ActivityWatch(pid_t program, std::filesystem::path library, std::function<void()> missing)
    : thread_(
          [program, library = std::move(library), missing = std::move(missing)](const std::stop_token& stop) {
              for (auto waited = std::chrono::milliseconds(0); waited < kPatience; waited += kPause) {
                  if (stop.stop_requested() || has_library(program, library)) return;
                  std::this_thread::sleep_for(kPause);
              }
              if (!stop.stop_requested() && ::kill(program, 0) == 0) missing();
          }) {}

} // namespace kvfold::launch
